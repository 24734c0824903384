// Word pairs on a GPU (shiftbench/word_pairs.h). Pairs are found in no particular order; the caller sorts them with
// torch. All pointers are to GPU memory.
#pragma once

#include <cstdint>

#include "grid.h"
#include "shiftbench/view.h"
#include "shiftbench/words.h"

namespace shiftbench::cuda {

// Pairs of words that co-occur, in the order in which threads found them. a, b: the lower and the higher index of the
// two words; cosine: their cosine; each [capacity]. count: one number, how many pairs there are; 0 at first.
template <class T>
struct FoundPairs {
    std::int32_t *a, *b;
    T* cosine;
    unsigned long long* count;
};

// Reads one block of the words x words matrix of approximate cosines, whose first element belongs to the words
// first_row and first_col. Pairs with row < column whose approximate cosine is above `low` of both words are
// candidates. A candidate's cosine is computed in double, in the order of `dot`, and the pair is added to `found` if
// its words co-occur: if the cosine is above the cutoffs of both and they are spelled differently. `found` must have
// room for as many more pairs as the block has elements. low, cutoff, spelling: [words]; low is at most the cutoff less
// the error of the approximate cosines. One pass over the block.
template <class T>
void cooccurrence_scan(Rows<const T> score, std::int64_t first_row, std::int64_t first_col, Rows<const T> unit,
                       const T* low, const double* cutoff, const std::int64_t* spelling, FoundPairs<T> found,
                       Stream stream);

// The largest number of key words of a neuron pair. A table of twice as many entries then takes 32 kB of shared memory,
// which every GPU has.
constexpr std::int64_t max_key_words = 2048;

// Adds to count[e], which is 0 before the call, the number of word pairs of neuron pair e. first_bad_query,
// first_bad_key: one number each, whose bits are all set before the call. They receive the lowest flat index of a query
// word and of a key word that is no index of a word of the vocabulary; a key word that occurs a second time among the
// key words of its neuron pair is bad, too. A flat index is neuron pair * (number of words of that side) + position.
// Each of the two numbers stays as it is if there is no such word.
template <class T>
void count_word_pairs(CooccurrenceLists<T> lists, NeuronSide query, NeuronSide key, unsigned long long* count,
                      unsigned long long* first_bad_query, unsigned long long* first_bad_key, Stream stream);

// Writes the word pairs of each neuron pair e to the elements of `place` and `cosine` from next[e] on, in no particular
// order, and raises next[e] by their number. place[n] = i * (number of key words of a neuron pair) + j, where i is the
// position of the query word among the neuron pair's query words, and j that of the key word among its key words.
// cosine[n]: the cosine of the two words.
template <class T>
void write_word_pairs(CooccurrenceLists<T> lists, NeuronSide query, NeuronSide key, unsigned long long* next,
                      std::int64_t* place, T* cosine, Stream stream);

}  // namespace shiftbench::cuda
