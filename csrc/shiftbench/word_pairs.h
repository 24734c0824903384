// Word pairs of neuron pairs (docs/mathematics.md, "Word pairs of attention heads"), in two steps. Which words co-occur
// does not depend on the neuron pair, so it is computed once, as a list of neighbours for every word. With the paper's
// cutoffs about one pair of words in a hundred co-occurs. A neuron pair then reads K short lists, one for each of its
// query words, instead of comparing K x K words.
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

// Finds the pairs of words that co-occur: their spellings differ and their cosine, which is the inner product of their
// unit vectors, is above the cutoffs of both. As in vocab_topk.h, a fast matrix product only chooses candidates, within
// a bound on its error; `dot` then computes the cosine of each candidate in double, and that cosine decides and is
// kept, rounded to T.
template <class T>
class Cooccurrence {
public:
    // unit: the words' vectors, of length 1, [words, width]. cutoff: the cosine that a word's neighbours must exceed,
    // [words]. spelling: equal numbers for words that are spelled alike, [words]. error: a bound on the absolute error
    // of the approximate cosines that scan() gets. unit, cutoff and spelling must outlive this object.
    Cooccurrence(Rows<const T> unit, const double* cutoff, const std::int64_t* spelling, double error)
        : unit_(unit), cutoff_(cutoff), spelling_(spelling), found_(static_cast<std::size_t>(unit.rows)) {
        constexpr double largest = std::numeric_limits<T>::max();
        for (std::int64_t v = 0; v < unit.rows; ++v) {
            // A cutoff that is nan stays nan, and no score is above it.
            const double threshold = std::min(std::max(cutoff[v] - error, -largest), largest);
            threshold_.push_back(std::nextafter(static_cast<T>(threshold), -std::numeric_limits<T>::infinity()));
        }
    }

    // Reads one block of the words x words matrix of approximate cosines; its first element belongs to the words
    // first_row and first_col. Only elements with row < column are read, since the matrix is symmetric. Blocks of the
    // same rows must be passed in ascending order of their columns, so that the neighbours of a word are found in
    // ascending order. One pass over the block.
    void scan(Rows<const T> score, std::int64_t first_row, std::int64_t first_col) {
        parallel_for(score.rows, grain_of(score.cols), [&](std::int64_t begin, std::int64_t end) {
            std::vector<std::int64_t> candidate(static_cast<std::size_t>(score.cols) + 1);
            for (std::int64_t r = begin; r < end; ++r) {
                const std::int64_t word = first_row + r;
                const T* row = score[r];
                const T *threshold = threshold_.data() + first_col,
                        own_threshold = threshold_[static_cast<std::size_t>(word)];
                std::size_t count = 0;
                for (std::int64_t c = std::max<std::int64_t>(0, word + 1 - first_col); c < score.cols; ++c) {
                    // Every word is written, and the next one overwrites it unless it is a candidate: a branch would be
                    // mispredicted often.
                    candidate[count] = first_col + c;
                    count += (row[c] > own_threshold) & (row[c] > threshold[c]);
                }
                for (std::size_t i = 0; i < count; ++i) check_pair(word, candidate[i]);
            }
        });
    }

    // The number of entries (word, neighbour): every pair of words that co-occur has two, one for each of its words.
    std::int64_t size() const {
        std::int64_t count = 0;
        for (const auto& row : found_) count += 2 * static_cast<std::int64_t>(row.size());
        return count;
    }

    // Writes all entries in the layout of CooccurrenceLists. first: [words + 1]; other and cosine: [size()].
    void write(std::int64_t* first, std::int32_t* other, T* cosine) const {
        const std::size_t words = found_.size();
        std::fill(first, first + words + 1, 0);
        for (std::size_t v = 0; v < words; ++v) {
            first[v + 1] += static_cast<std::int64_t>(found_[v].size());
            for (const Neighbour& one : found_[v]) ++first[one.word + 1];
        }
        for (std::size_t v = 0; v < words; ++v) first[v + 1] += first[v];
        std::vector<std::int64_t> next(first, first + words);
        // Words are visited in ascending order. When the loop arrives at v, every lower neighbour of v has already
        // written itself into v's list, so the list is in ascending order.
        for (std::size_t v = 0; v < words; ++v)
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

    void check_pair(std::int64_t a, std::int64_t b) {
        if (spelling_[a] == spelling_[b]) return;
        const double cosine = dot<double>(unit_[a], unit_[b], unit_.cols);
        if (cooccur(cosine, cutoff_[a], cutoff_[b]))
            found_[static_cast<std::size_t>(a)].push_back({static_cast<std::int32_t>(b), static_cast<T>(cosine)});
    }

    Rows<const T> unit_;
    const double* cutoff_;
    const std::int64_t* spelling_;
    std::vector<T> threshold_;  // of each word: a pair is no candidate if its approximate cosine is not above it
    std::vector<std::vector<Neighbour>> found_;  // of each word: its neighbours with a higher index, ascending
};

// Finds, for every neuron pair, the pairs of a query word and a key word that co-occur and whose activations have the
// same sign, which is not 0. The pairs of a neuron pair are ordered by descending cosine; ties go to the lower position
// of the query word among the neuron pair's query words, then to the lower position of the key word among its key
// words.
template <class T>
class WordPairs {
public:
    WordPairs(CooccurrenceLists<T> lists, NeuronSide query, NeuronSide key)
        : query_(query.word), key_(key.word), found_(static_cast<std::size_t>(query.word.rows)) {
        // A neuron pair reads its words and, for each query word, a list of about a hundredth of all words.
        const std::int64_t cost = query.word.cols * (2 + lists.words / 100);
        parallel_for(query.word.rows, grain_of(cost), [&](std::int64_t begin, std::int64_t end) {
            // For every word of the vocabulary: its position among the neuron pair's key words, or -1; and the sign of
            // its activation there, 0 if it is none of them. The innermost loop mostly reads the sign. It has an array
            // of its own, one byte per word, so that the array stays in the innermost cache.
            std::vector<std::int32_t> position(static_cast<std::size_t>(lists.words), -1);
            std::vector<std::int8_t> sign(position.size(), 0);
            // A bad word ends the work on its side of its neuron pair, not the loop: the lowest bad word of each side
            // is to be found, whatever the number of threads.
            for (std::int64_t e = begin; e < end; ++e) {
                const std::int64_t* keys = key.word[e];
                std::int64_t valid_keys = 0;
                for (; valid_keys < key.word.cols; ++valid_keys) {
                    const std::int64_t j = valid_keys;
                    if (!is_word(keys[j], lists.words) || position[static_cast<std::size_t>(keys[j])] >= 0) {
                        first_bad_key_.report(e * key.word.cols + j);
                        break;
                    }
                    position[static_cast<std::size_t>(keys[j])] = static_cast<std::int32_t>(j);
                    sign[static_cast<std::size_t>(keys[j])] = key.sign[e][j];
                }
                auto& here = found_[static_cast<std::size_t>(e)];
                for (std::int64_t i = 0; i < query.word.cols; ++i) {
                    const std::int64_t word = query.word[e][i];
                    const std::int8_t own_sign = query.sign[e][i];
                    if (!is_word(word, lists.words)) {
                        first_bad_query_.report(e * query.word.cols + i);
                        break;
                    }
                    if (i + 1 < query.word.cols) prefetch_list(lists, query.word[e][i + 1]);
                    if (own_sign == 0) continue;
                    for (std::int64_t n = lists.first[word]; n < lists.first[word + 1]; ++n) {
                        const auto other = static_cast<std::size_t>(lists.other[n]);
                        if (sign[other] != own_sign) continue;
                        here.push_back({lists.cosine[n], static_cast<std::int32_t>(i), position[other]});
                    }
                }
                for (std::int64_t j = 0; j < valid_keys; ++j) {
                    position[static_cast<std::size_t>(keys[j])] = -1;
                    sign[static_cast<std::size_t>(keys[j])] = 0;
                }
                std::sort(here.begin(), here.end(), before);
            }
        });
    }

    // The lowest flat index of a bad word on either side, or -1 if that side has none. A flat index is neuron pair *
    // (number of words of that side) + position. A word is bad if it is no index of a word of the vocabulary; a key
    // word is also bad if it occurs a second time among the key words of its neuron pair. If there is a bad word, the
    // results of size() and write() are undefined.
    std::int64_t first_bad_query() const { return first_bad_query_.get(); }
    std::int64_t first_bad_key() const { return first_bad_key_.get(); }

    // The number of word pairs of all neuron pairs.
    std::int64_t size() const {
        std::int64_t count = 0;
        for (const auto& here : found_) count += static_cast<std::int64_t>(here.size());
        return count;
    }

    // Writes the word pairs of all neuron pairs, neuron pair after neuron pair. Each array has size() elements, one for
    // each word pair: the index of its neuron pair, the indices of its query word and its key word in the vocabulary,
    // and the cosine of the two words.
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
        std::int32_t query, key;  // positions among the neuron pair's words
    };

    static bool before(const Pair& a, const Pair& b) {
        if (a.cosine != b.cosine) return a.cosine > b.cosine;
        return a.query != b.query ? a.query < b.query : a.key < b.key;
    }
    // Prefetches the neighbours of a word. Lists of neighbours are short and lie far apart, so the CPU's own
    // prefetcher, which recognises consecutive addresses, does not help.
    static void prefetch_list(const CooccurrenceLists<T>& lists, std::int64_t word) {
        constexpr std::int64_t line = 64 / sizeof(std::int32_t);  // elements in a cache line of 64 bytes
        if (!is_word(word, lists.words)) return;
        for (std::int64_t n = lists.first[word]; n < lists.first[word + 1]; n += line)
            __builtin_prefetch(lists.other + n);
    }
    static bool is_word(std::int64_t word, std::int64_t words) { return word >= 0 && word < words; }

    Rows<const std::int64_t> query_, key_;
    std::vector<std::vector<Pair>> found_;
    LowestIndex first_bad_query_, first_bad_key_;
};

}  // namespace shiftbench::cpu
