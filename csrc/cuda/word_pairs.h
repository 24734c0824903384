// Word pairs on a GPU (shiftbench/word_pairs.h). Pairs are found in no particular order; the caller sorts them by
// torch. All pointers are to GPU memory.
#pragma once

#include <cstdint>

#include "grid.h"
#include "shiftbench/view.h"
#include "shiftbench/words.h"

namespace shiftbench::cuda {

// Pairs of words that co-occur, in the order in which threads found them. a, b, cosine: [capacity]; count: one number,
// 0 at first.
template <class T>
struct FoundPairs {
    std::int32_t *a, *b;
    T* cosine;
    unsigned long long* count;
};

// Reads one block of the words x words matrix of approximate cosines, whose first element belongs to the words
// first_row and first_col. Pairs with row < column whose approximate cosine is above `low` of both words are
// candidates. A candidate's cosine is computed in double by `dot`'s order, and the pair is added to `found` if its
// words co-occur. The capacity of `found` must be the size of the block. low, cutoff, spelling: [words]; low is the
// cutoff less the error of the scores. One pass over the block.
template <class T>
void cooccurrence_scan(Rows<const T> score, std::int64_t first_row, std::int64_t first_col, Rows<const T> unit,
                       const T* low, const double* cutoff, const std::int64_t* spelling, FoundPairs<T> found,
                       Stream stream);

// The largest number of key words of a neuron pair. A table of twice as many entries then takes 32 kB of shared memory,
// which every GPU has.
constexpr std::int64_t max_key_words = 2048;

// count[e]: the number of word pairs of neuron pair e, 0 before the call. first_bad_query, first_bad_key: one number
// each, the lowest flat index of a query word (of a key word) that is no word of the vocabulary or that, among a neuron
// pair's key words, occurs a second time; all bits are set before the call, and stay so if there is none.
template <class T>
void count_word_pairs(CooccurrenceLists<T> lists, NeuronSide query, NeuronSide key, unsigned long long* count,
                      unsigned long long* first_bad_query, unsigned long long* first_bad_key, Stream stream);

// Writes the word pairs of neuron pair e to the elements from next[e] on, and raises next[e] by their number. place[n]
// is the position of the query word times K plus that of the key word; cosine[n] is their cosine.
template <class T>
void write_word_pairs(CooccurrenceLists<T> lists, NeuronSide query, NeuronSide key, unsigned long long* next,
                      std::int64_t* place, T* cosine, Stream stream);

}  // namespace shiftbench::cuda
