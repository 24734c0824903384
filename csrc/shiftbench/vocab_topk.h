// The words with the largest |embedding . direction| for each direction, from scores that arrive a block of words at a
// time. A matrix product's last bits depend on its shape and on the number of threads, so its scores only choose
// candidates, within a bound on their error; what is returned is computed by `dot`, in one order everywhere.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "dot.h"
#include "parallel.h"
#include "view.h"

namespace shiftbench::cpu {

// Holds at most k + 256 candidates a direction, whatever the number of words: a score enters when it may belong to the
// k best, and a full row is cut back to those that still may.
template <class T>
class VocabTopk {
public:
    // error[c]: no score of direction c that scan() is given is farther than this from its inner product.
    VocabTopk(std::vector<T> error, std::int64_t k)
        : k_(static_cast<std::size_t>(k)), error_(std::move(error)), rows_(error_.size()) {}

    // score: directions x words, of the words first_word, first_word + 1, ...; blocks come in the order of the words.
    template <class E>
    void scan(Rows<const T> score, std::int64_t first_word, Rows<const E> embedding, Rows<const T> direction) {
        parallel_for(score.rows, grain_of(score.cols), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t c = begin; c < end; ++c) {
                Row& row = rows_[static_cast<std::size_t>(c)];
                for (std::int64_t v = 0; v < score.cols; ++v) {
                    if (std::abs(score[c][v]) <= row.threshold) continue;  // a later word loses a tie, hence "<="
                    row.found.push_back({score[c][v], first_word + v});
                    if (row.found.size() < k_ + slack) continue;
                    cut(row, c);
                    if (row.found.size() > k_ + slack / 2) settle(row, embedding, direction[c]);
                }
            }
        });
    }

    // value and index: directions x k; by magnitude, largest first, ties to the lower index. Values keep their sign.
    template <class E>
    void finish(Rows<const E> embedding, Rows<const T> direction, Rows<T> value, Rows<std::int64_t> index) {
        parallel_for(value.rows, grain_of(value.cols * embedding.cols), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t c = begin; c < end; ++c) {
                Row& row = rows_[static_cast<std::size_t>(c)];
                cut(row, c);
                settle(row, embedding, direction[c]);
                std::sort(row.found.begin(), row.found.end(), before);
                for (std::size_t i = 0; i < k_; ++i) {
                    value[c][i] = row.found[i].score;
                    index[c][i] = row.found[i].word;
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

    void choose(Row& row) const {
        const auto last = row.found.begin() + static_cast<std::ptrdiff_t>(k_ - 1);
        std::nth_element(row.found.begin(), last, row.found.end(), before);
    }

    // Drops what k others exceed whatever the errors: the k-th magnitude may be one error less, a candidate's one more.
    void cut(Row& row, std::int64_t c) const {
        choose(row);
        row.threshold = std::abs(row.found[k_ - 1].score) - 2 * error_[static_cast<std::size_t>(c)];
        const auto hopeless = [&](const Candidate& one) { return std::abs(one.score) < row.threshold; };
        row.found.erase(std::remove_if(row.found.begin(), row.found.end(), hopeless), row.found.end());
    }

    // Computes the candidates' scores in the fixed order, in double, and keeps the k best.
    template <class E>
    void settle(Row& row, Rows<const E> embedding, const T* direction) const {
        for (Candidate& one : row.found)
            one.score = static_cast<T>(dot<double>(embedding[one.word], direction, embedding.cols));
        choose(row);
        row.found.resize(k_);
    }

    std::size_t k_;
    std::vector<T> error_;
    std::vector<Row> rows_;
};

}  // namespace shiftbench::cpu
