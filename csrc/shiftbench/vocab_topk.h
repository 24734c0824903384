// The words with the largest |score| for each direction, of scores that arrive a block of words at a time.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "parallel.h"
#include "view.h"

namespace shiftbench::cpu {

// Holds at most k + 256 candidates a direction, whatever the number of words: a score enters when its magnitude is
// above the row's threshold, and a full row is cut back to its k best, whose smallest is the new threshold.
template <class T>
class VocabTopk {
public:
    VocabTopk(std::int64_t directions, std::int64_t k)
        : k_(static_cast<std::size_t>(k)), rows_(static_cast<std::size_t>(directions)) {}

    // score: directions x words, of the words first_word, first_word + 1, ...; blocks come in the order of the words.
    // Returns the flat index of the first score that is not finite (nothing may be read from this object then), or -1.
    std::int64_t scan(Rows<const T> score, std::int64_t first_word) {
        Lowest bad;
        parallel_for(score.rows, grain_of(score.cols), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t c = begin; c < end; ++c) {
                const std::int64_t at = scan_row(rows_[static_cast<std::size_t>(c)], score[c], score.cols, first_word);
                if (at >= 0) return bad.report(c * score.cols + at);
            }
        });
        return bad.get();
    }

    // value and index: directions x k; by magnitude, largest first, ties to the lower index. Values keep their sign.
    void finish(Rows<T> value, Rows<std::int64_t> index) {
        parallel_for(value.rows, grain_of(16 * value.cols), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t c = begin; c < end; ++c) {
                auto& found = rows_[static_cast<std::size_t>(c)].found;
                std::sort(found.begin(), found.end(), before);
                for (std::size_t i = 0; i < k_; ++i) {
                    value[c][i] = found[i].score;
                    index[c][i] = found[i].word;
                }
            }
        });
    }

private:
    static constexpr std::size_t slack = 256;

    struct Candidate {
        T score;
        std::int64_t word;
    };
    struct Row {
        std::vector<Candidate> found;
        T threshold = -1;
    };

    static bool before(const Candidate& a, const Candidate& b) {
        const T x = std::abs(a.score), y = std::abs(b.score);
        return x > y || (x == y && a.word < b.word);
    }

    std::int64_t scan_row(Row& row, const T* score, std::int64_t words, std::int64_t first_word) const {
        for (std::int64_t v = 0; v < words; ++v) {
            // Not "magnitude > threshold": a nan must come in, to be refused. A later word loses a tie, hence "<=".
            if (std::abs(score[v]) <= row.threshold) continue;
            if (!std::isfinite(score[v])) return v;
            row.found.push_back({score[v], first_word + v});
            if (row.found.size() == k_ + slack) cut(row);
        }
        return -1;
    }

    void cut(Row& row) const {
        const auto last = row.found.begin() + static_cast<std::ptrdiff_t>(k_ - 1);
        std::nth_element(row.found.begin(), last, row.found.end(), before);
        row.threshold = std::abs(last->score);
        row.found.resize(k_);
    }

    std::size_t k_;
    std::vector<Row> rows_;
};

}  // namespace shiftbench::cpu
