// The k words that may have the largest scores of each direction, while scores arrive in any order, from any thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#include "instructions.h"

namespace shiftbench::cpu {

// Holds at most k + 256 words a direction, whatever the number of words: a score enters when it may belong to the k
// best, and a full row is cut back to those that still may. `error` is the farthest that a score of the direction seen
// so far may be from the exact one, which `exact(word)` computes; that of one panel of words, in least(), may be less.
template <class T>
class Candidates {
public:
    Candidates(std::int64_t directions, std::int64_t k)
        : k_(k),
          rows_(static_cast<std::size_t>(directions)),
          score_(static_cast<std::size_t>(directions * capacity())),
          word_(score_.size()) {}

    static std::int64_t bytes(std::int64_t k) { return (k + slack) * std::int64_t{sizeof(T) + sizeof(std::uint32_t)}; }

    // The least magnitude by which a score may enter.
    T least(std::int64_t c, T error) const { return rows_[std::size_t(c)].sure.load(std::memory_order_relaxed) - error; }

    // score: of the words first_word, first_word + 1, ...
    template <class F>
    void offer(std::int64_t c, const T* score, std::int64_t first_word, std::int64_t count, T error, const F& exact) {
        Row& row = rows_[std::size_t(c)];
        const Held held(row);
        T enters = least(c, error);
        for (std::int64_t i = 0; i < count; ++i) {
            if (!(std::abs(score[i]) >= enters)) continue;
            scores(c)[row.count] = score[i];
            words(c)[row.count++] = static_cast<std::uint32_t>(first_word + i);
            if (row.count < capacity()) continue;
            cut(c, error);
            if (row.count > k_ + slack / 2) settle(c, error, exact);
            enters = least(c, error);
        }
    }

    // By exact magnitude, largest first, ties to the lower index.
    template <class F>
    void finish(std::int64_t c, T error, const F& exact, T* value, std::int64_t* index) {
        cut(c, error);
        const std::vector<Candidate> best = exactly(c, exact);
        for (std::size_t i = 0; i < std::size_t(k_); ++i) {
            value[i] = best[i].score;
            index[i] = best[i].word;
        }
    }

private:
    static constexpr std::int64_t slack = 256;
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;

    struct Candidate {
        T score;
        std::uint32_t word;

        bool operator<(const Candidate& other) const {
            const T x = std::abs(score), y = std::abs(other.score);
            return x > y || (x == y && word < other.word);
        }
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

    std::int64_t capacity() const { return k_ + slack; }
    T* scores(std::int64_t c) { return score_.data() + c * capacity(); }
    std::uint32_t* words(std::int64_t c) { return word_.data() + c * capacity(); }

    // A magnitude that at least k candidates reach, and hardly more than k do: bisects the representable numbers, whose
    // bits are in their order.
    T reached(std::int64_t c) {
        const auto& tiles = std::get<Tiles<T>>(kernels().tiles);
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
            const std::int64_t count = tiles.count(scores(c), rows_[std::size_t(c)].count, number(middle));
            (count >= k_ ? low : high) = middle;
            if (count >= k_ && count <= k_ + slack / 16) break;
        }
        return number(low);
    }

    // Drops what k others exceed whatever the errors: the k-th magnitude may be one error less, a candidate's one more.
    void cut(std::int64_t c, T error) {
        Row& row = rows_[std::size_t(c)];
        row.sure = std::max(row.sure.load(), reached(c) - error);
        const T enters = least(c, error);
        T* score = scores(c);
        std::uint32_t* word = words(c);
        std::int64_t kept = 0;
        for (std::int64_t i = 0; i < row.count; ++i) {
            score[kept] = score[i];
            word[kept] = word[i];
            kept += std::abs(score[i]) >= enters;
        }
        row.count = kept;
    }

    // The k best of a row by their exact scores, in order.
    template <class F>
    std::vector<Candidate> exactly(std::int64_t c, const F& exact) {
        std::vector<Candidate> found(std::size_t(rows_[std::size_t(c)].count));
        for (std::size_t i = 0; i < found.size(); ++i) found[i] = {exact(words(c)[i]), words(c)[i]};
        std::partial_sort(found.begin(), found.begin() + k_, found.end());
        return found;
    }

    template <class F>
    void settle(std::int64_t c, T error, const F& exact) {
        Row& row = rows_[std::size_t(c)];
        const std::vector<Candidate> best = exactly(c, exact);
        row.count = k_;
        for (std::size_t i = 0; i < std::size_t(k_); ++i) {
            scores(c)[i] = best[i].score;
            words(c)[i] = best[i].word;
        }
        row.sure = std::max(row.sure.load(), std::abs(best[std::size_t(k_ - 1)].score) - error);
    }

    std::int64_t k_;
    std::vector<Row> rows_;
    std::vector<T> score_;
    std::vector<std::uint32_t> word_;
};

}  // namespace shiftbench::cpu
