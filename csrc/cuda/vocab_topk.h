// vocab_topk on a GPU (shiftbench/vocab_topk.h). As on the CPU, approximate scores choose candidates, whose scores are
// then computed exactly. The approximate scores come from the vendor's matrix product, which shiftbench/ops/cuda/
// calls for one tile at a time: many directions times so many words that their scores stay in the L2 cache.
// topk_collect reads them there and adds to each direction's candidates the words that may be among its k best.
#pragma once

#include <cstdint>

#include "grid.h"
#include "shiftbench/number.h"
#include "shiftbench/view.h"

namespace shiftbench::cuda {

// The candidates of all directions, in GPU memory.
//   score, word: [directions, capacity].
//   count: [directions], the number of candidates; 0 at first, `overflowed` once there was no room (topk_collect).
//   kth_bound: [directions]; at least k words have an exact score of this magnitude or more; -infinity at first.
//   error: [directions], a bound on |approximate score - exact score|.
//   k: how many words are wanted for each direction.
template <class T>
struct Candidates {
    Rows<T> score;
    std::int32_t* word;
    std::int32_t* count;
    T* kth_bound;
    const T* error;
    std::int32_t k;
};
constexpr std::int32_t overflowed = -1;
// topk_collect takes this many words of a tile at a time, four for each thread of a block, and first checks each time
// whether the direction's candidates have to be pruned to make room for them.
constexpr std::int64_t words_per_check = 1024;
// The largest capacity of a direction's candidates. Pruning holds them all in the registers of the direction's block,
// 32 for each thread.
constexpr std::int64_t max_candidates = 8192;

// Adds to each direction's candidates the words of one tile that may be among its k best. score: the tile's approximate
// scores, [directions, words of the tile]; the tile's first word is first_word. Sets the count of a direction to
// `overflowed` where pruning does not make room for all of the next words_per_check words, whether or not they turn out
// to be candidates; such a direction gets no more words. One pass over the scores.
template <class T>
void topk_collect(Rows<const T> score, std::int64_t first_word, Candidates<T> candidates, Stream stream);

// Writes the k words of each direction whose exact scores have the largest magnitudes, the largest first, with the same
// bytes as cpu::vocab_topk: inner products in double, in the order of `dot`, rounded to T. value, index: the scores and
// the words, [directions, k]; the rows of directions whose count is `overflowed` are not written. Changes `candidates`.
template <class T, class E>
void topk_finish(Rows<const E> embedding, Rows<const T> direction, Candidates<T> candidates, Rows<T> value,
                 Rows<std::int64_t> index, Stream stream);

}  // namespace shiftbench::cuda
