// What word pairs are found from, on the CPU and on a GPU.
#pragma once

#include <cstdint>

#include "view.h"

namespace shiftbench {

// The words that co-occur with word v, ascending, are other[first[v]] .. other[first[v + 1] - 1].
template <class T>
struct Cooccurring {
    std::int64_t words;
    const std::int64_t* first;
    const std::int32_t* other;
    const T* cosine;
};

// One side of the neuron pairs, neurons x K: the words, and the sign of their activations (-1, 0 or 1).
struct Side {
    Rows<const std::int64_t> word;
    Rows<const std::int8_t> sign;
};

}  // namespace shiftbench
