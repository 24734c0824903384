// The inputs of the search for word pairs, on the CPU and on a GPU (docs/mathematics.md, "Word pairs of attention
// heads").
#pragma once

#include <cstdint>

#include "view.h"

namespace shiftbench {

// For every word, the words that co-occur with it, in compressed sparse row layout: the neighbours of word v are
// other[first[v]] .. other[first[v + 1] - 1], in ascending order, and cosine[] holds the cosine with each of them.
// first: [words + 1]; other and cosine: [first[words]].
template <class T>
struct CooccurrenceLists {
    std::int64_t words;
    const std::int64_t* first;
    const std::int32_t* other;
    const T* cosine;
};

// The query side or the key side of all neuron pairs: the K words whose activations on that side have the largest
// magnitude, and the sign of each activation (-1, 0 or 1). Both matrices are [neuron pairs, K].
struct NeuronSide {
    Rows<const std::int64_t> word;
    Rows<const std::int8_t> sign;
};

}  // namespace shiftbench
