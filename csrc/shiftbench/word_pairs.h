// Word pairs of neuron pairs (docs/mathematics.md), by way of a list of every word's co-occurring words. Co-occurrence
// and spelling do not depend on the neuron, and about one pair of words in a hundred passes: a neuron's K x K
// candidates become K short lists, each read once.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "formulas.h"
#include "instructions.h"
#include "parallel.h"
#include "view.h"
#include "words.h"

namespace shiftbench::cpu {

// Which words co-occur: those spelled differently whose cosine, the inner product of their unit vectors, is above both
// words' cutoffs. As in vocab_topk, a matrix product only chooses whom to look at, within a bound on its error; the
// cosine that decides and is kept is `dot`'s, in double, rounded once.
template <class T>
class Cooccurrence {
public:
    Cooccurrence(Rows<const T> unit, const double* cutoff, const std::int64_t* spelling, double error)
        : unit_(unit), cutoff_(cutoff), spelling_(spelling), found_(static_cast<std::size_t>(unit.rows)) {
        constexpr double most = std::numeric_limits<T>::max();
        for (std::int64_t v = 0; v < unit.rows; ++v) {
            const double low = std::min(std::max(cutoff[v] - error, -most), most);  // nan stays, and passes nothing
            low_.push_back(std::nextafter(static_cast<T>(low), -std::numeric_limits<T>::infinity()));
        }
    }

    // score: inner products of the words first_row, ... with the words first_col, ...; a row's blocks come in the order
    // of their columns. A pair is looked at where row < column.
    void scan(Rows<const T> score, std::int64_t first_row, std::int64_t first_col) {
        parallel_for(score.rows, grain_of(score.cols), [&](std::int64_t begin, std::int64_t end) {
            std::vector<std::int64_t> maybe(static_cast<std::size_t>(score.cols) + 1);
            for (std::int64_t r = begin; r < end; ++r) {
                const std::int64_t word = first_row + r;
                const T* row = score[r];
                const T *low = low_.data() + first_col, mine = low_[static_cast<std::size_t>(word)];
                std::size_t count = 0;
                for (std::int64_t c = std::max<std::int64_t>(0, word + 1 - first_col); c < score.cols; ++c) {
                    maybe[count] = first_col + c;  // without a branch: the next one overwrites what does not count
                    count += (row[c] > mine) & (row[c] > low[c]);
                }
                for (std::size_t i = 0; i < count; ++i) look(word, maybe[i]);
            }
        });
    }

    // How many (word, other word) there are, both ways round.
    std::int64_t size() const {
        std::int64_t count = 0;
        for (const auto& row : found_) count += 2 * static_cast<std::int64_t>(row.size());
        return count;
    }

    // What Cooccurring reads.
    void write(std::int64_t* first, std::int32_t* other, T* cosine) const {
        const std::size_t words = found_.size();
        std::fill(first, first + words + 1, 0);
        for (std::size_t v = 0; v < words; ++v) {
            first[v + 1] += static_cast<std::int64_t>(found_[v].size());
            for (const Neighbour& one : found_[v]) ++first[one.word + 1];
        }
        for (std::size_t v = 0; v < words; ++v) first[v + 1] += first[v];
        std::vector<std::int64_t> next(first, first + words);
        for (std::size_t v = 0; v < words; ++v)  // when v's turn comes, all lower words have written themselves
            for (const Neighbour& one : found_[v]) {
                other[next[v]] = one.word;
                cosine[next[v]++] = one.cosine;
                const auto w = static_cast<std::size_t>(one.word);
                other[next[w]] = static_cast<std::int32_t>(v);
                cosine[next[w]++] = one.cosine;
            }
    }

private:
    struct Neighbour {
        std::int32_t word;
        T cosine;
    };

    void look(std::int64_t a, std::int64_t b) {
        if (spelling_[a] == spelling_[b]) return;
        const double cosine = dot<double>(unit_[a], unit_[b], unit_.cols);
        if (cooccur(cosine, cutoff_[a], cutoff_[b]))
            found_[static_cast<std::size_t>(a)].push_back({static_cast<std::int32_t>(b), static_cast<T>(cosine)});
    }

    Rows<const T> unit_;
    const double* cutoff_;
    const std::int64_t* spelling_;
    std::vector<T> low_;  // no product at or below it can be above the cutoff
    std::vector<std::vector<Neighbour>> found_;
};

// For every neuron pair, the (query word, key word) that co-occur and whose activations have the same sign, ordered by
// descending cosine, ties to the lower (query position, key position).
template <class T>
class WordPairs {
public:
    WordPairs(Cooccurring<T> cooccurring, Side query, Side key)
        : query_(query.word), key_(key.word), found_(static_cast<std::size_t>(query.word.rows)) {
        // A neuron looks at its words and, for each query word, at a list of about a hundredth of all words.
        const std::int64_t cost = query.word.cols * (2 + cooccurring.words / 100);
        parallel_for(query.word.rows, grain_of(cost), [&](std::int64_t begin, std::int64_t end) {
            // Where a word stands among the neuron's key words (-1: nowhere), and apart from it the sign, in one byte,
            // so that the test of every listed word stays in the innermost cache.
            std::vector<std::int32_t> place(static_cast<std::size_t>(cooccurring.words), -1);
            std::vector<std::int8_t> sign(place.size(), 0);
            for (std::int64_t e = begin; e < end; ++e) {
                const std::int64_t* keys = key.word[e];
                for (std::int64_t j = 0; j < key.word.cols; ++j) {
                    if (!exists(keys[j], cooccurring.words) || place[static_cast<std::size_t>(keys[j])] >= 0)
                        return bad_key_.report(e * key.word.cols + j);
                    place[static_cast<std::size_t>(keys[j])] = static_cast<std::int32_t>(j);
                    sign[static_cast<std::size_t>(keys[j])] = key.sign[e][j];
                }
                auto& here = found_[static_cast<std::size_t>(e)];
                for (std::int64_t i = 0; i < query.word.cols; ++i) {
                    const std::int64_t word = query.word[e][i];
                    const std::int8_t mine = query.sign[e][i];
                    if (!exists(word, cooccurring.words)) return bad_query_.report(e * query.word.cols + i);
                    if (i + 1 < query.word.cols) fetch(cooccurring, query.word[e][i + 1]);
                    if (mine == 0) continue;
                    for (std::int64_t n = cooccurring.first[word]; n < cooccurring.first[word + 1]; ++n) {
                        const auto other = static_cast<std::size_t>(cooccurring.other[n]);
                        if (sign[other] != mine) continue;
                        here.push_back({cooccurring.cosine[n], static_cast<std::int32_t>(i), place[other]});
                    }
                }
                for (std::int64_t j = 0; j < key.word.cols; ++j) {
                    place[static_cast<std::size_t>(keys[j])] = -1;
                    sign[static_cast<std::size_t>(keys[j])] = 0;
                }
                std::sort(here.begin(), here.end(), before);
            }
        });
    }

    // The flat index of the first word that does not exist or, among a neuron's key words, stands there twice; or -1.
    // What was found is then undefined.
    std::int64_t bad_query() const { return bad_query_.get(); }
    std::int64_t bad_key() const { return bad_key_.get(); }

    std::int64_t size() const {
        std::int64_t count = 0;
        for (const auto& here : found_) count += static_cast<std::int64_t>(here.size());
        return count;
    }

    // A row a pair: the neuron, the two words, their cosine.
    void write(std::int64_t* neuron, std::int64_t* query_word, std::int64_t* key_word, T* cosine) const {
        std::int64_t n = 0;
        for (std::int64_t e = 0; e < query_.rows; ++e)
            for (const Pair& pair : found_[static_cast<std::size_t>(e)]) {
                neuron[n] = e;
                query_word[n] = query_[e][pair.query];
                key_word[n] = key_[e][pair.key];
                cosine[n++] = pair.cosine;
            }
    }

private:
    struct Pair {
        T cosine;
        std::int32_t query, key;
    };

    static bool before(const Pair& a, const Pair& b) {
        if (a.cosine != b.cosine) return a.cosine > b.cosine;
        return a.query != b.query ? a.query < b.query : a.key < b.key;
    }
    // Asks for the list that is read next: lists are short, and the CPU cannot foresee where the next one lies.
    static void fetch(const Cooccurring<T>& cooccurring, std::int64_t word) {
        constexpr std::int64_t line = 64 / sizeof(std::int32_t);
        if (!exists(word, cooccurring.words)) return;
        for (std::int64_t n = cooccurring.first[word]; n < cooccurring.first[word + 1]; n += line)
            __builtin_prefetch(cooccurring.other + n);
    }
    static bool exists(std::int64_t word, std::int64_t words) { return word >= 0 && word < words; }

    Rows<const std::int64_t> query_, key_;
    std::vector<std::vector<Pair>> found_;
    Lowest bad_query_, bad_key_;
};

}  // namespace shiftbench::cpu
