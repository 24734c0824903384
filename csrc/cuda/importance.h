// Importance, levels and densities on a GPU (shiftbench/importance.h, which states formulas and shapes). All pointers
// are to GPU memory; the caller allocates scratch memory.
#pragma once

#include <cstdint>

#include "grid.h"
#include "shiftbench/number.h"
#include "shiftbench/view.h"

namespace shiftbench::cuda {

// What the threads of a pass over the importances record by atomic operations.
// largest[r]: the bits, as a double, of the largest importance of response token r, or of 0 if none is positive. They
// are compared as integers: the bits of doubles that are not negative are in the same order as the doubles. All bits
// are 0 before the pass. bad: one number, the lowest flat index p * R + r of an importance that is not finite, or
// `no_index` if there is none. It is `no_index` before the pass.
struct ImportanceRecord {
    unsigned long long *largest, *bad;
};
constexpr unsigned long long no_index = ~0ull;

// Writes the importances, with the same bytes as cpu::grad_x_input. Also fills `record`, unless record.largest is null.
// One pass over the gradients.
template <class T>
void grad_x_input(Planes<const T> grad, Rows<const T> embedding, Rows<accumulator_t<T>> importance,
                  ImportanceRecord record, Stream stream);

// Fills `record` from given importances. One pass over the importances.
template <class T>
void record_importance(Rows<const T> importance, ImportanceRecord record, Stream stream);

// Writes the levels, with the same bytes as cpu::importance_levels. Reads `record`, which must be filled; the levels
// are undefined if record.bad is not no_index. One pass over the importances.
template <class T>
void importance_levels(Rows<const T> importance, Rows<std::uint8_t> level, int levels, ImportanceRecord record,
                       Stream stream);

// Writes the densities that cpu::importance_density defines; the last bits may differ, because the sums have another
// order than on the CPU and `pow` may round differently. ratio: scratch memory, a double for each prompt token. bad:
// one number, no_index before the call; it receives the lowest flat index p * R + r of a level that is negative or not
// finite, and the densities are then undefined. One pass over the levels.
template <class T, class Out>
void importance_density(Rows<const T> level, double* ratio, Out* density, int cutoff, double p_norm,
                        unsigned long long* bad, Stream stream);

}  // namespace shiftbench::cuda
