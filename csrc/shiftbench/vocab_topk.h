// The words with the largest |embedding . direction| for each direction. A fast product's last bits depend on how it is
// computed, so its scores only choose candidates, within a bound on their error; what is returned is computed by `dot`,
// in one order everywhere. Scores are made and read a tile at a time: none is ever written to memory that lasts. Since
// they only choose, they are made from rows rounded to 16-bit whole numbers where the CPU multiplies these faster: the
// bound is wider then, and a few more candidates are computed exactly.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <type_traits>
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
double norm_of(const X* row, std::int64_t width) {
    return std::sqrt(dot<double>(row, row, width));
}

// The largest norm of some rows, and the largest norm of what rounding took from one of them.
struct Extent {
    double norm, lost;
};

// How far a score in T of a direction may be from its inner product in double, rounded to T: the bound of any order of
// summation, D u / (1 - D u) |direction| |word| with u = eps / 2 (Higham 2002, section 3.1), doubled for the second
// rounding, and a little for those of this bound; what underflow can take; and, of rows a and b rounded to a' and b',
// |a . b - a' . b'| <= |a - a'| |b| + |a'| |b - b'|. A direction of zeros has no error.
template <class T>
struct ScoreError {
    double per_norm, per_lost, least;

    ScoreError(std::int64_t width, const Extent& direction, bool rounded)
        : per_norm(double(width + 2) * std::numeric_limits<T>::epsilon() * direction.norm + little * direction.lost),
          per_lost(little * (direction.norm + direction.lost)),
          least(direction.norm > 0 ? double(width) * std::numeric_limits<T>::min() + (rounded ? of_steps : 0) : 0) {}

    T operator()(const Extent& word) const {
        return static_cast<T>(per_norm * word.norm + per_lost * word.lost + least);
    }

private:
    static constexpr double little = 1 + 1e-6;
    static constexpr double of_steps = 0x1p-94;  // a product of steps below 2^-126 may become 0, times sums to 2^31
};

// Of a packed row.
template <class T>
std::int64_t slots_of(const Tiles<T>& tiles, std::int64_t width) {
    return tiles.rounded ? 2 + (width + 1) / 2 : width;
}

// How a pass makes its scores.
template <class T, class E>
struct Scoring {
    const Tiles<T>& tiles;
    Pack<T, E> pack_words;

    static Scoring plain() { return {std::get<Tiles<T>>(kernels().tiles), std::get<Pack<T, E>>(kernels().pack_words)}; }
    static Scoring fastest() {
        if constexpr (std::is_same_v<T, float>) {
            const Rounded& rounded = kernels().rounded;
            if (rounded.there) return {rounded.tiles, std::get<Pack<T, E>>(rounded.pack_words)};
        }
        return plain();
    }
};

enum class Passed { yes, refused, too_close };  // too_close: rounded rows do not tell enough of the words apart

// One pass over the embeddings for as many directions as are held at a time. Threads take panels of words in turn;
// a direction's candidates are all threads' business, which is rarely.
template <class T, class E>
class TopkPass {
public:
    TopkPass(const Scoring<T, E>& scoring, Rows<const E> embedding, Rows<const T> direction,
             const double* direction_norm, std::int64_t k)
        : embedding_(embedding),
          direction_(direction),
          steepest_(*std::max_element(direction_norm, direction_norm + direction.rows)),
          tiles_(scoring.tiles),
          pack_words_(scoring.pack_words),
          slots_(slots_of(tiles_, direction.cols)),
          panels_((direction.rows + tiles_.directions - 1) / tiles_.directions),
          packed_(static_cast<std::size_t>(panels_ * tiles_.directions * slots_)),
          candidates_(direction.rows, embedding.rows, k) {
        parallel_for(panels_, grain_of(tiles_.directions * direction.cols), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t panel = begin; panel < end; ++panel) {
                const std::int64_t first = panel * tiles_.directions;
                tiles_.pack_directions(direction[first], direction.stride,
                                       std::min(tiles_.directions, direction.rows - first), direction.cols,
                                       packed_panel(panel));
            }
        });
        error_.reserve(static_cast<std::size_t>(direction.rows));
        for (std::int64_t c = 0; c < direction.rows; ++c) {
            const T* panel = packed_panel(c / tiles_.directions);
            const double lost = tiles_.rounded ? panel[tiles_.directions + c % tiles_.directions] : 0;
            error_.emplace_back(direction.cols, Extent{direction_norm[c], lost}, tiles_.rounded);
        }
    }

    // Offers every word's scores to the candidates. Gives up where a word is not finite, a score might overflow, or
    // so many scores had to be made exact that a pass without rounding is the faster one.
    Passed score() {
        const std::int64_t work = embedding_.rows * embedding_.cols * direction_.rows;
        parallel_for(std::min<std::int64_t>(thread_count, 1 + work / 1000000), 1,
                     [&](std::int64_t, std::int64_t) { take_panels(); });
        return refused_ ? Passed::refused : too_close_ ? Passed::too_close : Passed::yes;
    }

    // value and index: directions x k; by magnitude, largest first, ties to the lower index. Values keep their sign.
    void finish(Rows<T> value, Rows<std::int64_t> index) {
        const Extent all{longest_, most_lost_};
        candidates_.finish([&](std::int64_t c) { return error(c, all); },
                           [&](std::int64_t c, std::int64_t word) { return exact(c, word); }, value, index);
    }

private:
    T* packed_panel(std::int64_t panel) { return packed_.data() + panel * tiles_.directions * slots_; }

    T error(std::int64_t c, const Extent& words) const { return error_[static_cast<std::size_t>(c)](words); }

    T exact(std::int64_t c, std::int64_t word) const {
        return static_cast<T>(dot<double>(embedding_[word], direction_[c], embedding_.cols));
    }

    void take_panels() {
        std::vector<T> words(static_cast<std::size_t>(tiles_.words * slots_));
        std::vector<T> score(static_cast<std::size_t>(tiles_.words * tiles_.directions));
        std::vector<T> least(static_cast<std::size_t>(tiles_.directions));
        std::vector<std::uint32_t> name(static_cast<std::size_t>(tiles_.words));
        while (!refused_ && !too_close_) {
            const std::int64_t first = next_word_.fetch_add(tiles_.words);
            if (first >= embedding_.rows) return;
            const std::int64_t count = std::min(tiles_.words, embedding_.rows - first);
            const double longest = longest_of(first, count);
            if (refused_ || too_close_) return;
            pack_words_(embedding_[first], embedding_.stride, count, embedding_.cols, words.data());
            Extent here{longest, 0};
            if (tiles_.rounded)
                here.lost = *std::max_element(words.data() + tiles_.words, words.data() + tiles_.words + count);
            raise(longest_, here.norm);  // before any of these words is offered
            raise(most_lost_, here.lost);
            std::iota(name.begin(), name.end(), static_cast<std::uint32_t>(first));
            for (std::int64_t panel = 0; panel < panels_; ++panel) {
                const std::int64_t from = panel * tiles_.directions;
                const std::int64_t to = std::min(from + tiles_.directions, direction_.rows);
                std::fill(least.begin(), least.end(), std::numeric_limits<T>::infinity());
                for (std::int64_t c = from; c < to; ++c)
                    least[static_cast<std::size_t>(c - from)] = candidates_.least(c, error(c, here));
                std::uint32_t found =
                    tiles_.score(packed_panel(panel), words.data(), slots_, least.data(), score.data());
                for (; found; found &= found - 1) {
                    const std::int64_t d = __builtin_ctz(found), c = from + d;
                    const auto error_now = [&] { return error(c, {longest_, most_lost_}); };
                    const auto settled = [&](std::int64_t word) {
                        if (error_now() > 0) ++settled_;  // a direction of zeros settles in any pass
                        return exact(c, word);
                    };
                    candidates_.offer(c, score.data() + d * tiles_.words, name.data(), count, error_now, settled);
                }
            }
            // An exact score costs tens of a tile's: beyond this the tiles without rounding are the faster ones.
            if (tiles_.rounded && settled_ > direction_.rows * embedding_.rows / 32) too_close_ = true;
        }
    }

    // The largest norm of these words; refuses what the scores could not hold.
    double longest_of(std::int64_t first, std::int64_t count) {
        double longest = 0;
        for (std::int64_t v = first; v < first + count; ++v) {
            const double norm = norm_of(embedding_[v], embedding_.cols);
            if (!std::isfinite(norm)) refused_ = true;
            longest = std::max(longest, norm);
        }
        constexpr double most = double(std::numeric_limits<T>::max());
        if (longest * steepest_ >= most) refused_ = true;
        if (tiles_.rounded && longest * steepest_ >= most / 2) too_close_ = true;  // a rounded score may be larger
        return longest;
    }

    static void raise(std::atomic<double>& most, double value) {
        double before = most;
        while (value > before && !most.compare_exchange_weak(before, value)) {
        }
    }

    Rows<const E> embedding_;
    Rows<const T> direction_;
    double steepest_;
    std::vector<ScoreError<T>> error_;
    const Tiles<T>& tiles_;
    Pack<T, E> pack_words_;
    std::int64_t slots_, panels_;
    std::vector<T> packed_;
    Candidates<T> candidates_;
    std::atomic<std::int64_t> next_word_{0}, settled_{0};
    std::atomic<double> longest_{0}, most_lost_{0};
    std::atomic<bool> refused_{false}, too_close_{false};
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
    bool rounds = true;
    for (std::int64_t first = 0; first < direction.rows;) {
        const auto scoring = rounds ? Scoring<T, E>::fastest() : Scoring<T, E>::plain();
        // Directions and their candidates held at a time: most of the working memory.
        constexpr std::int64_t budget = 5 << 20;
        const std::int64_t each =
            slots_of(scoring.tiles, direction.cols) * std::int64_t{sizeof(T)} + Candidates<T>::bytes(value.cols);
        const std::int64_t left = direction.rows - first, passes = (left * each + budget - 1) / budget;
        const std::int64_t count = (left + passes - 1) / passes;
        TopkPass<T, E> pass(scoring, embedding, {direction[first], count, direction.cols, direction.stride},
                            norm.data() + first, value.cols);
        const Passed passed = pass.score();
        if (passed == Passed::refused) return topk_refusal<T>(embedding, norm);
        if (passed == Passed::too_close) {
            rounds = false;
            continue;
        }
        pass.finish({value[first], count, value.cols, value.stride}, {index[first], count, index.cols, index.stride});
        first += count;
    }
    return refusal;
}

}  // namespace shiftbench::cpu
