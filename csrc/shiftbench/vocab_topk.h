// The words with the largest |embedding . direction| for each direction. A fast product's last bits depend on how it is
// computed, so its scores only choose candidates, within a bound on their error; what is returned is computed by `dot`,
// in one order everywhere. Scores are made and read a tile at a time: none is ever written to memory that lasts.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "candidates.h"
#include "instructions.h"
#include "parallel.h"
#include "view.h"

namespace shiftbench::cpu {

// The first row of each that cannot be computed with, or -1.
struct TopkRefusal {
    std::int64_t embedding = -1, direction = -1;  // has a number that is not finite
    std::int64_t overflow = -1;                   // direction whose scores may not fit T

    bool any() const { return embedding >= 0 || direction >= 0 || overflow >= 0; }
};

// |row|, in double.
template <class X>
double norm_of(const X* row, std::int64_t width) { return std::sqrt(dot<double>(row, row, width)); }

// How far a score in T of a direction may be from its inner product in double, rounded to T: the bound of any order of
// summation, D u / (1 - D u) |direction| |word| with u = eps / 2 (Higham 2002, section 3.1), doubled for the second
// rounding, and a little for those of this bound; and what underflow can take. A direction of zeros has no error.
template <class T>
struct ScoreError {
    double per_length, least;

    ScoreError(std::int64_t width, double direction_norm)
        : per_length(double(width + 2) * std::numeric_limits<T>::epsilon() * direction_norm),
          least(direction_norm > 0 ? double(width) * std::numeric_limits<T>::min() : 0) {}

    T operator()(double word_norm) const { return static_cast<T>(per_length * word_norm + least); }
};

// One pass over the embeddings for as many directions as are held at a time. Threads take panels of words in turn;
// a direction's candidates are all threads' business, which is rarely.
template <class T, class E>
class TopkPass {
public:
    TopkPass(Rows<const E> embedding, Rows<const T> direction, const double* direction_norm, std::int64_t k)
        : embedding_(embedding),
          direction_(direction),
          steepest_(*std::max_element(direction_norm, direction_norm + direction.rows)),
          tiles_(std::get<Tiles<T>>(kernels().tiles)),
          panels_((direction.rows + tiles_.directions - 1) / tiles_.directions),
          packed_(static_cast<std::size_t>(panels_ * tiles_.directions * direction.cols)),
          candidates_(direction.rows, embedding.rows, k) {
        error_.reserve(static_cast<std::size_t>(direction.rows));
        for (std::int64_t c = 0; c < direction.rows; ++c) error_.emplace_back(direction.cols, direction_norm[c]);
        parallel_for(panels_, grain_of(tiles_.directions * direction.cols), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t panel = begin; panel < end; ++panel) {
                const std::int64_t first = panel * tiles_.directions;
                tiles_.pack_directions(direction[first], direction.stride,
                                       std::min(tiles_.directions, direction.rows - first), direction.cols,
                                       packed_panel(panel));
            }
        });
    }

    // Offers every word's scores to the candidates. Returns false, the rest undone, where a word is not finite or a
    // score might overflow.
    bool score() {
        const std::int64_t work = embedding_.rows * embedding_.cols * direction_.rows;
        parallel_for(std::min<std::int64_t>(thread_count, 1 + work / 1000000), 1,
                     [&](std::int64_t, std::int64_t) { take_panels(); });
        return !refused_;
    }

    // value and index: directions x k; by magnitude, largest first, ties to the lower index. Values keep their sign.
    void finish(Rows<T> value, Rows<std::int64_t> index) {
        candidates_.finish([&](std::int64_t c) { return error(c, longest_); },
                           [&](std::int64_t c, std::int64_t word) { return exact(c, word); }, value, index);
    }

private:
    T* packed_panel(std::int64_t panel) { return packed_.data() + panel * tiles_.directions * direction_.cols; }

    T error(std::int64_t c, double word_norm) const { return error_[static_cast<std::size_t>(c)](word_norm); }

    T exact(std::int64_t c, std::int64_t word) const {
        return static_cast<T>(dot<double>(embedding_[word], direction_[c], embedding_.cols));
    }

    void take_panels() {
        std::vector<T> words(static_cast<std::size_t>(tiles_.words * embedding_.cols));
        std::vector<T> score(static_cast<std::size_t>(tiles_.words * tiles_.directions));
        std::vector<T> least(static_cast<std::size_t>(tiles_.directions));
        std::vector<std::uint32_t> name(static_cast<std::size_t>(tiles_.words));
        while (!refused_) {
            const std::int64_t first = next_word_.fetch_add(tiles_.words);
            if (first >= embedding_.rows) return;
            const std::int64_t count = std::min(tiles_.words, embedding_.rows - first);
            const double longest = longest_of(first, count);
            if (refused_) return;
            std::get<Pack<T, E>>(kernels().pack_words)(embedding_[first], embedding_.stride, count, embedding_.cols,
                                                       words.data());
            std::iota(name.begin(), name.end(), static_cast<std::uint32_t>(first));
            for (std::int64_t panel = 0; panel < panels_; ++panel) {
                const std::int64_t from = panel * tiles_.directions;
                const std::int64_t to = std::min(from + tiles_.directions, direction_.rows);
                std::fill(least.begin(), least.end(), std::numeric_limits<T>::infinity());
                for (std::int64_t c = from; c < to; ++c)
                    least[static_cast<std::size_t>(c - from)] = candidates_.least(c, error(c, longest));
                std::uint32_t found = tiles_.score(packed_panel(panel), words.data(), embedding_.cols, least.data(),
                                                   score.data());
                for (; found; found &= found - 1) {
                    const std::int64_t d = __builtin_ctz(found), c = from + d;
                    candidates_.offer(c, score.data() + d * tiles_.words, name.data(), count, error(c, longest_),
                                      [&](std::int64_t word) { return exact(c, word); });
                }
            }
        }
    }

    // The largest norm of these words, told to all; refuses what the scores could not hold.
    double longest_of(std::int64_t first, std::int64_t count) {
        double longest = 0;
        for (std::int64_t v = first; v < first + count; ++v) {
            const double norm = norm_of(embedding_[v], embedding_.cols);
            if (!std::isfinite(norm)) refused_ = true;
            longest = std::max(longest, norm);
        }
        if (longest * steepest_ >= double(std::numeric_limits<T>::max())) refused_ = true;
        double seen = longest_;
        while (longest > seen && !longest_.compare_exchange_weak(seen, longest)) {
        }
        return longest;
    }

    Rows<const E> embedding_;
    Rows<const T> direction_;
    double steepest_;
    std::vector<ScoreError<T>> error_;
    const Tiles<T>& tiles_;
    std::int64_t panels_;
    std::vector<T> packed_;
    Candidates<T> candidates_;
    std::atomic<std::int64_t> next_word_{0};
    std::atomic<double> longest_{0};
    std::atomic<bool> refused_{false};
};

// Why a pass gave up: looked for in order, so that every run names the same place.
template <class T, class E>
TopkRefusal topk_refusal(Rows<const E> embedding, const std::vector<double>& direction_norm) {
    TopkRefusal refusal;
    double longest = 0;
    for (std::int64_t v = 0; v < embedding.rows; ++v) {
        const double norm = norm_of(embedding[v], embedding.cols);
        if (!std::isfinite(norm)) {
            refusal.embedding = v;
            return refusal;
        }
        longest = std::max(longest, norm);
    }
    for (std::size_t c = 0; c < direction_norm.size() && refusal.overflow < 0; ++c)
        if (longest * direction_norm[c] >= double(std::numeric_limits<T>::max()))
            refusal.overflow = static_cast<std::int64_t>(c);
    return refusal;
}

// value and index: directions x k, k = value.cols. Undefined where something is refused.
template <class T, class E>
TopkRefusal vocab_topk(Rows<const E> embedding, Rows<const T> direction, Rows<T> value, Rows<std::int64_t> index) {
    TopkRefusal refusal;
    std::vector<double> norm(static_cast<std::size_t>(direction.rows));
    for (std::int64_t c = direction.rows; c-- > 0;) {
        norm[static_cast<std::size_t>(c)] = norm_of(direction[c], direction.cols);
        if (!std::isfinite(norm[static_cast<std::size_t>(c)])) refusal.direction = c;
    }
    if (refusal.direction >= 0) return refusal;
    // Directions and their candidates held at a time: most of the working memory.
    constexpr std::int64_t budget = 5 << 20;
    const std::int64_t each = direction.cols * std::int64_t{sizeof(T)} + Candidates<T>::bytes(value.cols);
    const std::int64_t passes = (direction.rows * each + budget - 1) / budget;
    for (std::int64_t pass = 0; pass < passes; ++pass) {
        const std::int64_t first = direction.rows * pass / passes, last = direction.rows * (pass + 1) / passes;
        TopkPass<T, E> part(embedding, {direction[first], last - first, direction.cols, direction.stride},
                            norm.data() + first, value.cols);
        if (!part.score()) return topk_refusal<T>(embedding, norm);
        part.finish({value[first], last - first, value.cols, value.stride},
                    {index[first], last - first, index.cols, index.stride});
    }
    return refusal;
}

}  // namespace shiftbench::cpu
