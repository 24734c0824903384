// shiftbench/vocab_topk.h on a GPU: scores come from the vendor's matrix product a tile at a time, which stays in the
// L2 cache; what is kept of a tile are the words that may be among the k best.
#pragma once

#include <cstdint>

#include "grid.h"
#include "shiftbench/number.h"
#include "shiftbench/view.h"

namespace shiftbench::cuda {

// Candidates of each direction: score and word [directions, capacity]; count, at first 0, and `overflowed` once there
// were more than there is room for; sure: k words are at least this large, exactly, at first -infinity; error: how far
// a score may be from the exact one.
template <class T>
struct Candidates {
    Rows<T> score;
    std::int32_t* word;
    std::int32_t* count;
    T* sure;
    const T* error;
    std::int32_t k;
};
constexpr std::int32_t overflowed = -1;
// Words of a tile that a direction takes between two looks at the room left, and the most there is room for.
constexpr std::int64_t words_at_once = 1024, most_candidates = 8192;

// score: [directions, words], of the words first_word, first_word + 1, ...
template <class T>
void topk_collect(Rows<const T> score, std::int64_t first_word, Candidates<T> candidates, Stream stream);

// value and index [directions, k], by `dot`'s sum in double, rounded; untouched where a direction has overflowed.
template <class T, class E>
void topk_finish(Rows<const E> embedding, Rows<const T> direction, Candidates<T> candidates, Rows<T> value,
                 Rows<std::int64_t> index, Stream stream);

}  // namespace shiftbench::cuda
