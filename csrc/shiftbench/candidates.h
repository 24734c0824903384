// Keeps, for each direction, the words that may be among the k whose scores have the largest magnitude. Approximate
// scores arrive in any order and from any thread; a bound on their error is known, and exact scores can be computed on
// demand.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <thread>
#include <type_traits>
#include <vector>

#include "formulas.h"
#include "instructions.h"
#include "parallel.h"
#include "view.h"

namespace shiftbench::cpu {

// Every direction has a row of less than k + 256 candidates, whatever the size of the vocabulary. A word enters the row
// when its score may belong to the k best. When the row is full, it is pruned to the words that may still be among the
// k best. If that leaves more than k + 128, their exact scores are computed and the k best of them are kept.
//
// `error` is a bound on |approximate score - exact score|, over all scores of the direction that were added so far.
// `exact(word)` computes an exact score. The result depends on exact scores alone: which words become candidates
// depends on the order of arrival and on the errors, but they always include the k best.
template <class T>
class Candidates {
public:
    Candidates(std::int64_t directions, std::int64_t vocabulary, std::int64_t k)
        : vocabulary_(vocabulary),
          k_(k),
          rows_(static_cast<std::size_t>(directions)),
          score_(static_cast<std::size_t>(directions * capacity())),
          word_(score_.size()) {}

    // The bytes that one direction's row takes.
    static std::int64_t bytes(std::int64_t k) {
        return (k + slack + tile) * std::int64_t{sizeof(T) + sizeof(std::uint32_t)};
    }

    // The threshold of direction c: a word whose approximate score has a magnitude below it is not among the k best.
    // error: a bound on the error of the scores that will be compared with the threshold; it need not hold for other
    // words.
    T threshold(std::int64_t c, T error) const {
        return rows_[std::size_t(c)].kth_bound.load(std::memory_order_relaxed) - error;
    }

    // Adds those of `count` words, at most Tiles::words, that may be among direction c's k best. score, word: their
    // approximate scores and their indices. error_now() gives the bound for all scores that were added to this
    // direction so far, these included; it is called while the row is locked. exact(word) gives an exact score. Several
    // threads may call this at once.
    template <class Error, class Exact>
    void add(std::int64_t c, const T* score, const std::uint32_t* word, std::int64_t count, const Error& error_now,
             const Exact& exact) {
        Row& row = rows_[std::size_t(c)];
        const RowLock lock(row);
        const T error = error_now();
        row.count +=
            tiles_.keep_at_least(score, word, count, threshold(c, error), scores(c) + row.count, words(c) + row.count);
        if (row.count < full()) return;
        prune(c, error);
        if (row.count > k_ + slack / 2) rescore(c, exact);
    }

    // Writes the k best words of every direction by exact score, in the order of `precedes`. Call it once, after the
    // last `add`, when each direction was given at least k words. value, index: the exact scores and the words,
    // [directions, k]. error(c) gives the bound for all scores that were added to direction c; exact(c, word) gives a
    // word's exact score for direction c. Exact scores are computed word after word, not direction after direction, so
    // that an embedding is read from memory once, however many directions it is a candidate of.
    template <class Error, class Exact>
    void finish(const Error& error, const Exact& exact, Rows<T> value, Rows<std::int64_t> index) {
        parallel_for(value.rows, grain_of(cost_per_candidate * full()), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t c = begin; c < end; ++c) prune(c, error(c));
        });
        std::vector<CandidateSlot> slots = by_word();
        const auto count = static_cast<std::int64_t>(slots.size());
        constexpr std::int64_t exact_grain = 64;  // exact scores per thread at least; each reads a whole embedding
        parallel_for(count, exact_grain, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) {
                const auto [word, c, slot] = slots[std::size_t(i)];
                scores(c)[slot] = exact(c, word);
            }
        });
        parallel_for(value.rows, grain_of(cost_per_candidate * k_), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t c = begin; c < end; ++c) {
                const std::vector<Candidate> best = sorted(c);
                for (std::size_t i = 0; i < std::size_t(k_); ++i) {
                    value[c][i] = best[i].score;
                    index[c][i] = best[i].word;
                }
            }
        });
    }

private:
    // With a larger `slack`, rows are pruned less often, but they take more memory and leave more scores to be computed
    // exactly at the end. `tile` is room for the words that one `add` copies and for those that keep_at_least
    // overwrites after them, each at most Tiles::words, which is at most 32.
    static constexpr std::int64_t slack = 256, tile = 64;
    // The elementary operations that pruning or sorting takes for each candidate: about one for each bit of a score.
    static constexpr std::int64_t cost_per_candidate = 32;
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;

    struct Candidate {
        T score;
        std::uint32_t word;

        bool operator<(const Candidate& other) const { return precedes(score, word, other.score, other.word); }
    };
    struct Row {
        std::atomic<bool> busy{false};
        std::atomic<T> kth_bound{
            -std::numeric_limits<T>::infinity()};  // at least k exact scores have this magnitude or a larger one
        std::int64_t count = 0;
    };
    // Locks a row. Threads rarely add to the same direction at once, so a waiting thread only yields.
    class RowLock {
    public:
        explicit RowLock(Row& row) : row_(row) {
            while (row_.busy.exchange(true, std::memory_order_acquire)) std::this_thread::yield();
        }
        ~RowLock() { row_.busy.store(false, std::memory_order_release); }

    private:
        Row& row_;
    };

    struct CandidateSlot {
        std::uint32_t word, direction, slot;
    };

    std::int64_t directions() const { return static_cast<std::int64_t>(rows_.size()); }
    std::int64_t full() const { return k_ + slack; }
    std::int64_t capacity() const { return full() + tile; }  // a tile may be written behind a row that is not full
    T* scores(std::int64_t c) { return score_.data() + c * capacity(); }
    std::uint32_t* words(std::int64_t c) { return word_.data() + c * capacity(); }

    // A magnitude that at least k candidates of direction c reach and, unless many are equal, at most k + slack / 16.
    // Found by bisection of the representable numbers: the bits of numbers that are not negative, read as integers, are
    // in the same order as the numbers. At most one pass over the row for each bit.
    T kth_magnitude(std::int64_t c) {
        const auto number = [](Bits bits) {
            T value;
            std::memcpy(&value, &bits, sizeof value);
            return value;
        };
        const T infinity = std::numeric_limits<T>::infinity();
        Bits low = 0, high;
        std::memcpy(&high, &infinity, sizeof high);
        while (high - low > 1) {
            const Bits middle = low + (high - low) / 2;
            const std::int64_t count = tiles_.count_at_least(scores(c), rows_[std::size_t(c)].count, number(middle));
            (count >= k_ ? low : high) = middle;
            if (count >= k_ && count <= k_ + slack / 16) break;
        }
        return number(low);
    }

    // Drops the candidates that k others exceed whatever the errors are. The k-th largest exact magnitude is at least
    // the k-th largest approximate one less `error`, and the exact magnitude of a candidate is at most its approximate
    // one plus `error`.
    void prune(std::int64_t c, T error) {
        Row& row = rows_[std::size_t(c)];
        row.kth_bound = std::max(row.kth_bound.load(), kth_magnitude(c) - error);
        row.count = tiles_.keep_at_least(scores(c), words(c), row.count, threshold(c, error), scores(c), words(c));
    }

    // All candidates of all directions, ordered by word, each with its direction and its index in the direction's row
    // (`slot`). A counting sort.
    std::vector<CandidateSlot> by_word() {
        std::vector<std::uint32_t> next(std::size_t(vocabulary_) + 1);
        for (std::int64_t c = 0; c < directions(); ++c)
            for (std::int64_t i = 0; i < rows_[std::size_t(c)].count; ++i) ++next[words(c)[i] + 1];
        std::partial_sum(next.begin(), next.end(), next.begin());
        std::vector<CandidateSlot> slots(next.back());
        for (std::int64_t c = 0; c < directions(); ++c)
            for (std::int64_t i = 0; i < rows_[std::size_t(c)].count; ++i)
                slots[next[words(c)[i]]++] = {words(c)[i], std::uint32_t(c), std::uint32_t(i)};
        return slots;
    }

    // The candidates of direction c, whose scores must be exact. At least the first k are sorted, the best first; the
    // others follow in any order.
    std::vector<Candidate> sorted(std::int64_t c) {
        std::vector<Candidate> found(std::size_t(rows_[std::size_t(c)].count));
        for (std::size_t i = 0; i < found.size(); ++i) found[i] = {scores(c)[i], words(c)[i]};
        // Where less than 2 k candidates are left, a full sort is faster than a partial one.
        if (std::int64_t(found.size()) < 2 * k_)
            std::sort(found.begin(), found.end());
        else
            std::partial_sort(found.begin(), found.begin() + k_, found.end());
        return found;
    }

    // Replaces the scores of direction c's row by exact ones and keeps the k best. Needed where the errors are so large
    // that pruning leaves more than k + slack / 2 candidates.
    template <class F>
    void rescore(std::int64_t c, const F& exact) {
        Row& row = rows_[std::size_t(c)];
        for (std::int64_t i = 0; i < row.count; ++i) scores(c)[i] = exact(words(c)[i]);
        const std::vector<Candidate> best = sorted(c);
        row.count = k_;
        for (std::size_t i = 0; i < std::size_t(k_); ++i) {
            scores(c)[i] = best[i].score;
            words(c)[i] = best[i].word;
        }
        row.kth_bound = std::max(row.kth_bound.load(), std::abs(best[std::size_t(k_ - 1)].score));
    }

    const Tiles<T>& tiles_ = std::get<Tiles<T>>(kernels().tiles);
    std::int64_t vocabulary_, k_;
    std::vector<Row> rows_;
    std::vector<T> score_;
    std::vector<std::uint32_t> word_;
};

}  // namespace shiftbench::cpu
