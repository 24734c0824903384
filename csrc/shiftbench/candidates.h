// The k words that may have the largest scores of each direction, while scores arrive in any order, from any thread.
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

// Holds at most k + 256 words a direction, whatever the number of words: a score enters when it may belong to the k
// best, and a full row is cut back to those that still may. `error` is the farthest that a score of the direction seen
// so far may be from the exact one, which `exact(word)` computes; that of one panel of words, in least(), may be less.
template <class T>
class Candidates {
public:
    Candidates(std::int64_t directions, std::int64_t vocabulary, std::int64_t k)
        : vocabulary_(vocabulary),
          k_(k),
          rows_(static_cast<std::size_t>(directions)),
          score_(static_cast<std::size_t>(directions * capacity())),
          word_(score_.size()) {}

    static std::int64_t bytes(std::int64_t k) {
        return (k + slack + tile) * std::int64_t{sizeof(T) + sizeof(std::uint32_t)};
    }

    // The least magnitude by which a score may enter.
    T least(std::int64_t c, T error) const {
        return rows_[std::size_t(c)].sure.load(std::memory_order_relaxed) - error;
    }

    // At most a tile's words and their scores. error_now(): of all that the direction was offered so far, these
    // included; asked for while nobody else offers.
    template <class Error, class Exact>
    void offer(std::int64_t c, const T* score, const std::uint32_t* word, std::int64_t count, const Error& error_now,
               const Exact& exact) {
        Row& row = rows_[std::size_t(c)];
        const Held held(row);
        const T error = error_now();
        row.count += tiles_.keep(score, word, count, least(c, error), scores(c) + row.count, words(c) + row.count);
        if (row.count < full()) return;
        cut(c, error);
        if (row.count > k_ + slack / 2) settle(c, exact);
    }

    // Every direction's k best by exact magnitude, largest first, ties to the lower index. error(c), exact(c, word).
    // Word after word, so that each is read from memory once however many directions it is a candidate of.
    template <class Error, class Exact>
    void finish(const Error& error, const Exact& exact, Rows<T> value, Rows<std::int64_t> index) {
        parallel_for(value.rows, grain_of(32 * full()), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t c = begin; c < end; ++c) cut(c, error(c));
        });
        std::vector<Place> places = by_word();
        const auto count = static_cast<std::int64_t>(places.size());
        parallel_for(count, 64, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) {
                const auto [word, c, slot] = places[std::size_t(i)];
                scores(c)[slot] = exact(c, word);
            }
        });
        parallel_for(value.rows, grain_of(32 * k_), [&](std::int64_t begin, std::int64_t end) {
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
    static constexpr std::int64_t slack = 256, tile = 64;
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;

    struct Candidate {
        T score;
        std::uint32_t word;

        bool operator<(const Candidate& other) const { return precedes(score, word, other.score, other.word); }
    };
    struct Row {
        std::atomic<bool> busy{false};
        std::atomic<T> sure{-std::numeric_limits<T>::infinity()};  // k words are at least this large, exactly
        std::int64_t count = 0;
    };
    class Held {
    public:
        explicit Held(Row& row) : row_(row) {
            while (row_.busy.exchange(true, std::memory_order_acquire)) std::this_thread::yield();
        }
        ~Held() { row_.busy.store(false, std::memory_order_release); }

    private:
        Row& row_;
    };

    struct Place {
        std::uint32_t word, direction, slot;
    };

    std::int64_t directions() const { return static_cast<std::int64_t>(rows_.size()); }
    std::int64_t full() const { return k_ + slack; }
    std::int64_t capacity() const { return full() + tile; }  // a tile may be written behind a row that is not full
    T* scores(std::int64_t c) { return score_.data() + c * capacity(); }
    std::uint32_t* words(std::int64_t c) { return word_.data() + c * capacity(); }

    // A magnitude that at least k candidates reach, and hardly more than k do: bisects the representable numbers, whose
    // bits are in their order.
    T reached(std::int64_t c) {
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
            const std::int64_t count = tiles_.count(scores(c), rows_[std::size_t(c)].count, number(middle));
            (count >= k_ ? low : high) = middle;
            if (count >= k_ && count <= k_ + slack / 16) break;
        }
        return number(low);
    }

    // Drops what k others exceed whatever the errors: the k-th magnitude may be one error less, a candidate's one more.
    void cut(std::int64_t c, T error) {
        Row& row = rows_[std::size_t(c)];
        row.sure = std::max(row.sure.load(), reached(c) - error);
        row.count = tiles_.keep(scores(c), words(c), row.count, least(c, error), scores(c), words(c));
    }

    // All candidates, in the order of their words.
    std::vector<Place> by_word() {
        std::vector<std::uint32_t> next(std::size_t(vocabulary_) + 1);
        for (std::int64_t c = 0; c < directions(); ++c)
            for (std::int64_t i = 0; i < rows_[std::size_t(c)].count; ++i) ++next[words(c)[i] + 1];
        std::partial_sum(next.begin(), next.end(), next.begin());
        std::vector<Place> places(next.back());
        for (std::int64_t c = 0; c < directions(); ++c)
            for (std::int64_t i = 0; i < rows_[std::size_t(c)].count; ++i)
                places[next[words(c)[i]]++] = {words(c)[i], std::uint32_t(c), std::uint32_t(i)};
        return places;
    }

    // The k best of a row whose scores are exact, in order.
    std::vector<Candidate> sorted(std::int64_t c) {
        std::vector<Candidate> found(std::size_t(rows_[std::size_t(c)].count));
        for (std::size_t i = 0; i < found.size(); ++i) found[i] = {scores(c)[i], words(c)[i]};
        // Of hardly more than k, sorting all is faster.
        if (std::int64_t(found.size()) < 2 * k_)
            std::sort(found.begin(), found.end());
        else
            std::partial_sort(found.begin(), found.begin() + k_, found.end());
        return found;
    }

    // Where errors leave more candidates than there is room for, their scores are made exact, and the k best stay.
    template <class F>
    void settle(std::int64_t c, const F& exact) {
        Row& row = rows_[std::size_t(c)];
        for (std::int64_t i = 0; i < row.count; ++i) scores(c)[i] = exact(words(c)[i]);
        const std::vector<Candidate> best = sorted(c);
        row.count = k_;
        for (std::size_t i = 0; i < std::size_t(k_); ++i) {
            scores(c)[i] = best[i].score;
            words(c)[i] = best[i].word;
        }
        row.sure = std::max(row.sure.load(), std::abs(best[std::size_t(k_ - 1)].score));
    }

    const Tiles<T>& tiles_ = std::get<Tiles<T>>(kernels().tiles);
    std::int64_t vocabulary_, k_;
    std::vector<Row> rows_;
    std::vector<T> score_;
    std::vector<std::uint32_t> word_;
};

}  // namespace shiftbench::cpu
