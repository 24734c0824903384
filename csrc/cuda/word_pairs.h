// shiftbench/word_pairs.h on a GPU. The order of what is found is the caller's to make: sorting is a library's business.
#pragma once

#include <cstdint>

#include "grid.h"
#include "shiftbench/view.h"

namespace shiftbench::cuda {

// Pairs of words that co-occur, as they are found. count: how many, at first 0.
template <class T>
struct FoundWords {
    std::int32_t *a, *b;
    T* cosine;
    unsigned long long* count;
};

// score: cosines of the words first_row, ... with the words first_col, ..., good enough to choose whom to look at: those
// above low of both. Those that co-occur by `dot`'s cosine, row before column, are added to `found`, which must have room.
template <class T>
void cooccurrence_scan(Rows<const T> score, std::int64_t first_row, std::int64_t first_col, Rows<const T> unit,
                       const T* low, const double* cutoff, const std::int64_t* spelling, FoundWords<T> found,
                       Stream stream);

// The words that co-occur with word v, ascending, are other[first[v]] .. other[first[v + 1] - 1].
template <class T>
struct CooccurringWords {
    std::int64_t words;
    const std::int64_t* first;
    const std::int32_t* other;
    const T* cosine;
};

// One side of the neuron pairs, neurons x K, K at most most_words.
struct Words {
    Rows<const std::int64_t> word;
    Rows<const std::int8_t> sign;
};
constexpr std::int64_t most_words = 2048;

// count[e]: the word pairs of neuron pair e. bad_query, bad_key: the lowest flat index of a word that does not exist or,
// among a neuron's key words, stands there twice; at first `nothing`, all ones.
template <class T>
void count_word_pairs(CooccurringWords<T> cooccurring, Words query, Words key, unsigned long long* count,
                      unsigned long long* bad_query, unsigned long long* bad_key, Stream stream);

// place[n] = position of the query word * K + that of the key word, from next[e] on for neuron pair e; next is raised.
template <class T>
void write_word_pairs(CooccurringWords<T> cooccurring, Words query, Words key, unsigned long long* next,
                      std::int64_t* place, T* cosine, Stream stream);

}  // namespace shiftbench::cuda
