// Finds, for each direction, the k words with the largest |embedding . direction|.
//
// Candidates, then exact rescoring. The last bits of a fast matrix product depend on the instruction set, so its scores
// only choose candidates: a word is a candidate if its score, within a bound on the score's error, may be among the k
// largest. The scores of the candidates are then computed by `dot`, in one order everywhere, and these are compared and
// returned. So words and values have the same bytes on every CPU and with every number of threads.
//
// Approximate scores are computed tile by tile in registers and read at once; the matrix of all scores never exists.
// Where the CPU multiplies 16-bit integers faster than floats (AVX-512 VNNI), float scores are computed from rows that
// are rounded to such integers. The bound on the error is then wider, and a few more candidates have to be scored
// exactly.
//
// Memory passes: one over the embeddings for as many directions as fit the working memory (`working_bytes`), plus the
// reads of the candidates' embeddings. A pass with rounded rows may be given up and made again without them.
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

// Why the arguments are refused. At most one field is not -1; all are -1 if nothing is refused.
struct TopkRefusal {
    std::int64_t embedding = -1;  // the first row of the embeddings whose norm is not finite (norm_of)
    std::int64_t direction = -1;  // the first direction whose norm is not finite
    std::int64_t overflow = -1;   // the first direction whose scores may overflow the type of the scores

    bool any() const { return embedding >= 0 || direction >= 0 || overflow >= 0; }
};

// The Euclidean norm of a row, computed in double. It is not finite if an element is not, or if the sum of squares
// overflows a double.
template <class X>
double norm_of(const X* row, std::int64_t width) {
    return std::sqrt(dot<double>(row, row, width));
}

// Bounds for a set of rows: the largest norm of a row, and the largest norm of (row - rounded row), which is 0 where
// rows are not rounded.
struct NormBound {
    double norm, rounding;
};

// A bound on the error of a direction's approximate scores, |score computed in T - exact score rounded to T|, where the
// exact score is the inner product in double. It is the sum of three terms, and of step_underflow where rows are
// rounded:
//   (D + 2) eps |direction| |word|     The sum of D products, in any order, has an error of at most
//                                      D u / (1 - D u) |direction| |word| with u = eps / 2 (Higham 2002, section 3.1).
//                                      The term is twice that, for the rounding of the exact score as well, and a
//                                      little more, for the rounding errors of this bound.
//   |a - a'| |b| + |a'| |b - b'|       where the direction a and the word b are rounded to a' and b'. It is at least
//                                      |a . b - a' . b'|, and |a'| is at most |a| + |a - a'|.
//   D tiny                             for products that underflow; `tiny` is the smallest normal number.
// For a direction of zeros the bound is 0. The object is made for one direction; calling it with the bounds of a set of
// words gives the bound for their scores.
template <class T>
struct ScoreError {
    double per_norm, per_rounding, constant;  // factors of NormBound::norm and ::rounding of the words; rest

    ScoreError(std::int64_t width, const NormBound& direction, bool rounded)
        : per_norm(double(width + 2) * std::numeric_limits<T>::epsilon() * direction.norm +
                   safety * direction.rounding),
          per_rounding(safety * (direction.norm + direction.rounding)),
          constant(direction.norm > 0 ? double(width) * std::numeric_limits<T>::min() + (rounded ? step_underflow : 0)
                                      : 0) {}

    T operator()(const NormBound& word) const {
        return static_cast<T>(per_norm * word.norm + per_rounding * word.rounding + constant);
    }

private:
    static constexpr double safety = 1 + 1e-6;  // for the rounding errors of the norms and of this bound
    // The product of two steps may underflow to 0 where it is below 2^-126. It is multiplied by sums below 2^31, so an
    // error of less than 2^-95 results; this is twice that.
    static constexpr double step_underflow = 0x1p-94;
};

// The number of slots of a packed row (kernels.h, Pack).
template <class T>
std::int64_t slots_of(const Tiles<T>& tiles, std::int64_t width) {
    return tiles.rounded ? 2 + (width + 1) / 2 : width;
}

// The kernels by which a pass computes its approximate scores. plain: those of the instruction set in use for scores in
// T. fastest: those of rounded rows if T is float and the instruction set has them, else plain.
template <class T, class E>
struct Scoring {
    const Tiles<T>& tiles;
    Pack<T, E> pack_words;

    static Scoring plain() { return {std::get<Tiles<T>>(kernels().tiles), std::get<Pack<T, E>>(kernels().pack_words)}; }
    static Scoring fastest() {
        if constexpr (std::is_same_v<T, float>) {
            const RoundedTiles& rounded = kernels().rounded;
            if (rounded.available) return {rounded.tiles, std::get<Pack<T, E>>(rounded.pack_words)};
        }
        return plain();
    }
};

// How a pass ended. complete: every word was scored. refused: an embedding's norm is not finite, or a score may
// overflow T; find_refusal says which. too_close: a pass without rounding has to be made instead, either because the
// scores of rounded rows lie so close together, compared with their errors, that a pass without rounding is faster, or
// because a score of rounded rows might overflow.
enum class PassResult { complete, refused, too_close };

// One pass over the embeddings, for some of the directions: `direction` has these, and direction_norm their norms
// (norm_of). Each thread takes the next panel of words (as many words as a tile has) until none is left, and scores it
// against all panels of directions. All threads add to the same candidates of a direction, but few scores are high
// enough to be added, so threads seldom wait for each other.
template <class T, class E>
class TopkPass {
public:
    TopkPass(const Scoring<T, E>& scoring, Rows<const E> embedding, Rows<const T> direction,
             const double* direction_norm, std::int64_t k)
        : embedding_(embedding),
          direction_(direction),
          max_direction_norm_(*std::max_element(direction_norm, direction_norm + direction.rows)),
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
            const double rounding = tiles_.rounded ? panel[tiles_.directions + c % tiles_.directions] : 0;
            error_.emplace_back(direction.cols, NormBound{direction_norm[c], rounding}, tiles_.rounded);
        }
    }

    // Scores every word against every direction, and adds to a direction's candidates the words that may be among its k
    // best. Ends early where the result is not `complete`.
    PassResult score() {
        const std::int64_t work = embedding_.rows * embedding_.cols * direction_.rows;
        // Threads take panels at their own pace, so the ranges of parallel_for say only how many threads there are:
        // about one for every million products, since fewer would not be worth starting a thread, and at most
        // thread_count.
        constexpr std::int64_t products_per_thread = 1000000;
        parallel_for(std::min<std::int64_t>(thread_count, 1 + work / products_per_thread), 1,
                     [&](std::int64_t, std::int64_t) { score_panels(); });
        return refused_ ? PassResult::refused : too_close_ ? PassResult::too_close : PassResult::complete;
    }

    // To be called after score() returned `complete`. Writes the k words of every direction whose exact scores have the
    // largest magnitude, the largest first, ties to the lower index. value: the exact scores with their sign; index:
    // the words' rows among the embeddings; both [directions, k].
    void finish(Rows<T> value, Rows<std::int64_t> index) {
        const NormBound all{max_norm_, max_rounding_};
        candidates_.finish([&](std::int64_t c) { return error(c, all); },
                           [&](std::int64_t c, std::int64_t word) { return exact(c, word); }, value, index);
    }

private:
    T* packed_panel(std::int64_t panel) { return packed_.data() + panel * tiles_.directions * slots_; }

    T error(std::int64_t c, const NormBound& words) const { return error_[static_cast<std::size_t>(c)](words); }

    T exact(std::int64_t c, std::int64_t word) const {
        return static_cast<T>(dot<double>(embedding_[word], direction_[c], embedding_.cols));
    }

    void score_panels() {
        std::vector<T> words(static_cast<std::size_t>(tiles_.words * slots_));
        std::vector<T> score(static_cast<std::size_t>(tiles_.words * tiles_.directions));
        std::vector<T> threshold(static_cast<std::size_t>(tiles_.directions));
        std::vector<std::uint32_t> word_index(static_cast<std::size_t>(tiles_.words));
        while (!refused_ && !too_close_) {
            const std::int64_t first = next_word_.fetch_add(tiles_.words);
            if (first >= embedding_.rows) return;
            const std::int64_t count = std::min(tiles_.words, embedding_.rows - first);
            const double max_norm = max_norm_of(first, count);
            if (refused_ || too_close_) return;
            pack_words_(embedding_[first], embedding_.stride, count, embedding_.cols, words.data());
            NormBound here{max_norm, 0};
            if (tiles_.rounded)
                here.rounding = *std::max_element(words.data() + tiles_.words, words.data() + tiles_.words + count);
            raise_to(max_norm_, here.norm);  // before these words are added: error_now must hold for them too
            raise_to(max_rounding_, here.rounding);
            std::iota(word_index.begin(), word_index.end(), static_cast<std::uint32_t>(first));
            for (std::int64_t panel = 0; panel < panels_; ++panel) {
                const std::int64_t from = panel * tiles_.directions;
                const std::int64_t to = std::min(from + tiles_.directions, direction_.rows);
                std::fill(threshold.begin(), threshold.end(), std::numeric_limits<T>::infinity());
                for (std::int64_t c = from; c < to; ++c)
                    threshold[static_cast<std::size_t>(c - from)] = candidates_.threshold(c, error(c, here));
                std::uint32_t found =
                    tiles_.score(packed_panel(panel), words.data(), slots_, threshold.data(), score.data());
                for (; found; found &= found - 1) {
                    const std::int64_t d = __builtin_ctz(found), c = from + d;
                    const auto error_now = [&] { return error(c, {max_norm_, max_rounding_}); };
                    const auto rescore = [&](std::int64_t word) {
                        if (error_now() > 0) ++rescored_;  // a direction of zeros needs them in any pass
                        return exact(c, word);
                    };
                    candidates_.add(c, score.data() + d * tiles_.words, word_index.data(), count, error_now, rescore);
                }
            }
            // To compute a score exactly takes tens of times as long as in a tile. Where more than one score in
            // max_rescored_share had to be computed exactly, tiles without rounding are faster.
            constexpr std::int64_t max_rescored_share = 32;
            if (tiles_.rounded && rescored_ > direction_.rows * embedding_.rows / max_rescored_share) too_close_ = true;
        }
    }

    // The largest norm of the embeddings [first, first + count). Sets refused_ where one is not finite or where a score
    // might overflow T, and too_close_ where a score of rounded rows might.
    double max_norm_of(std::int64_t first, std::int64_t count) {
        double max_norm = 0;
        for (std::int64_t v = first; v < first + count; ++v) {
            const double norm = norm_of(embedding_[v], embedding_.cols);
            if (!std::isfinite(norm)) refused_ = true;
            max_norm = std::max(max_norm, norm);
        }
        constexpr double max_score = double(std::numeric_limits<T>::max());
        if (max_norm * max_direction_norm_ >= max_score) refused_ = true;
        // The score of rounded rows may be larger than the exact one.
        if (tiles_.rounded && max_norm * max_direction_norm_ >= max_score / 2) too_close_ = true;
        return max_norm;
    }

    // largest = max(largest, value), while other threads may do the same.
    static void raise_to(std::atomic<double>& largest, double value) {
        double before = largest;
        while (value > before && !largest.compare_exchange_weak(before, value)) {
        }
    }

    Rows<const E> embedding_;
    Rows<const T> direction_;
    double max_direction_norm_;
    std::vector<ScoreError<T>> error_;
    const Tiles<T>& tiles_;
    Pack<T, E> pack_words_;
    std::int64_t slots_, panels_;
    std::vector<T> packed_;
    Candidates<T> candidates_;
    std::atomic<std::int64_t> next_word_{0}, rescored_{0};
    std::atomic<double> max_norm_{0}, max_rounding_{0};
    std::atomic<bool> refused_{false}, too_close_{false};
};

// What made a pass end as `refused`: the first embedding whose norm is not finite or else the first of all directions
// whose scores may overflow. It is searched for in the order of the rows, on one thread, so that every run names the
// same row although the threads of a pass do not visit the rows in order.
template <class T, class E>
TopkRefusal find_refusal(Rows<const E> embedding, const std::vector<double>& direction_norm) {
    TopkRefusal refusal;
    double max_norm = 0;
    for (std::int64_t v = 0; v < embedding.rows; ++v) {
        const double norm = norm_of(embedding[v], embedding.cols);
        if (!std::isfinite(norm)) {
            refusal.embedding = v;
            return refusal;
        }
        max_norm = std::max(max_norm, norm);
    }
    for (std::size_t c = 0; c < direction_norm.size() && refusal.overflow < 0; ++c)
        if (max_norm * direction_norm[c] >= double(std::numeric_limits<T>::max()))
            refusal.overflow = static_cast<std::int64_t>(c);
    return refusal;
}

// Writes the k words of every direction whose exact scores have the largest magnitude (see the head of this file).
// embedding: [words, D], in the type E that it is stored in; direction: [directions, D]; value, which receives the
// scores, and index, which receives the words: [directions, k], 1 <= k <= words, each row in the order of `precedes`.
// If something is refused (any() of the result), value and index are undefined.
template <class T, class E>
TopkRefusal vocab_topk(Rows<const E> embedding, Rows<const T> direction, Rows<T> value, Rows<std::int64_t> index) {
    TopkRefusal refusal;
    std::vector<double> norm(static_cast<std::size_t>(direction.rows));
    for (std::int64_t c = direction.rows; c-- > 0;) {
        norm[static_cast<std::size_t>(c)] = norm_of(direction[c], direction.cols);
        if (!std::isfinite(norm[static_cast<std::size_t>(c)])) refusal.direction = c;
    }
    if (refusal.direction >= 0) return refusal;
    bool use_rounded = true;
    for (std::int64_t first = 0; first < direction.rows;) {
        const auto scoring = use_rounded ? Scoring<T, E>::fastest() : Scoring<T, E>::plain();
        // The packed directions and the candidates of one pass take about this many bytes: at most one direction more,
        // and the padding of the last panel. They are most of the memory that the function needs. Directions that do
        // not fit are left for further passes, and all passes get about equally many.
        constexpr std::int64_t working_bytes = 5 << 20;
        const std::int64_t each =
            slots_of(scoring.tiles, direction.cols) * std::int64_t{sizeof(T)} + Candidates<T>::bytes(value.cols);
        const std::int64_t left = direction.rows - first, passes = (left * each + working_bytes - 1) / working_bytes;
        const std::int64_t count = (left + passes - 1) / passes;
        TopkPass<T, E> pass(scoring, embedding, {direction[first], count, direction.cols, direction.stride},
                            norm.data() + first, value.cols);
        const PassResult passed = pass.score();
        if (passed == PassResult::refused) return find_refusal<T>(embedding, norm);
        if (passed == PassResult::too_close) {
            use_rounded = false;
            continue;
        }
        pass.finish({value[first], count, value.cols, value.stride}, {index[first], count, index.cols, index.stride});
        first += count;
    }
    return refusal;
}

}  // namespace shiftbench::cpu
