// shiftbench/word_pairs.h on a GPU. The order of what is found is the caller's to make: sorting is a library's
// business.
#pragma once

#include <cstdint>

#include "grid.h"
#include "shiftbench/view.h"
#include "shiftbench/words.h"

namespace shiftbench::cuda {

// Pairs of words that co-occur, as they are found. count: how many, at first 0.
template <class T>
struct FoundWords {
    std::int32_t *a, *b;
    T* cosine;
    unsigned long long* count;
};

// score: cosines of the words first_row, ... with the words first_col, ..., good enough to choose whom to look at:
// those above low of both. Those that co-occur by `dot`'s cosine, row before column, are added to `found`, which must
// have room.
template <class T>
void cooccurrence_scan(Rows<const T> score, std::int64_t first_row, std::int64_t first_col, Rows<const T> unit,
                       const T* low, const double* cutoff, const std::int64_t* spelling, FoundWords<T> found,
                       Stream stream);

constexpr std::int64_t most_words = 2048;  // key words of a neuron pair

// count[e]: the word pairs of neuron pair e. bad_query, bad_key: the lowest flat index of a word that does not exist
// or, among a neuron's key words, stands there twice; at first `nothing`, all ones.
template <class T>
void count_word_pairs(Cooccurring<T> cooccurring, Side query, Side key, unsigned long long* count,
                      unsigned long long* bad_query, unsigned long long* bad_key, Stream stream);

// place[n] = position of the query word * K + that of the key word, from next[e] on for neuron pair e; next is raised.
template <class T>
void write_word_pairs(Cooccurring<T> cooccurring, Side query, Side key, unsigned long long* next, std::int64_t* place,
                      T* cosine, Stream stream);

}  // namespace shiftbench::cuda
