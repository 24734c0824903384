// Importance, levels and densities on a GPU (shiftbench/importance.h, which states formulas and shapes). All pointers
// are to GPU memory; the caller allocates scratch memory.
#pragma once

#include <cstdint>

#include "grid.h"
#include "shiftbench/number.h"
#include "shiftbench/view.h"

namespace shiftbench::cuda {

// What passes over the importances record, by atomic operations of all threads.
// largest[r]: the bits of the largest importance of response token r, as a double. It is 0 before the pass and never
// negative, and the bits of such doubles, read as integers, are in the same order as they are.
// bad: one number, the lowest flat index of an importance that is not finite; `no_index` before the pass.
struct ImportanceRecord {
    unsigned long long *largest, *bad;
};
constexpr unsigned long long no_index = ~0ull;

// Has the CPU's bytes. Fills `record` unless record.largest is null. One pass over the gradients.
template <class T>
void grad_x_input(Planes<const T> grad, Rows<const T> embedding, Rows<accumulator_t<T>> importance,
                  ImportanceRecord record, Stream stream);

// Fills `record` from importances that are already there. One pass over the importances.
template <class T>
void record_importance(Rows<const T> importance, ImportanceRecord record, Stream stream);

// Has the CPU's bytes. Reads `record`, and leaves the levels undefined if record.bad is not no_index. One pass over the
// importances.
template <class T>
void importance_levels(Rows<const T> importance, Rows<std::uint8_t> level, int levels, ImportanceRecord record,
                       Stream stream);

// ratio: scratch memory, a double for each prompt token. bad: the lowest flat index of a level that is negative or not
// finite; no_index before the call. Powers are summed in another order than on the CPU. One pass over the levels.
template <class T, class Out>
void importance_density(Rows<const T> level, double* ratio, Out* density, int cutoff, double p_norm,
                        unsigned long long* bad, Stream stream);

}  // namespace shiftbench::cuda
