// shiftbench/importance.h on a GPU. Every pointer is to its memory; scratch is the caller's.
#pragma once

#include <cstdint>

#include "grid.h"
#include "shiftbench/number.h"
#include "shiftbench/view.h"

namespace shiftbench::cuda {

// What a pass over the importances notes: largest[r], the bits of the largest importance of response token r (a double
// that is not negative, so that its bits are in its order), at first 0; bad, the lowest flat index of a number that is
// refused, at first `nothing`.
struct Noted {
    unsigned long long *largest, *bad;
};
constexpr unsigned long long nothing = ~0ull;

// noted.largest null: not asked for.
template <class T>
void grad_x_input(Planes<const T> grad, Rows<const T> embedding, Rows<accumulator_t<T>> importance, Noted noted,
                  Stream stream);

template <class T>
void note_largest(Rows<const T> importance, Noted noted, Stream stream);

template <class T>
void importance_levels(Rows<const T> importance, Rows<std::uint8_t> level, int levels, Noted noted, Stream stream);

// ratio: a double for each prompt token.
template <class T, class Out>
void importance_density(Rows<const T> level, double* ratio, Out* density, int cutoff, double p_norm,
                        unsigned long long* bad, Stream stream);

}  // namespace shiftbench::cuda
