// The stratified bootstrap (shiftbench/bootstrap.h) on a GPU.
#pragma once

#include <cstdint>

#include "grid.h"
#include "shiftbench/view.h"

namespace shiftbench::cuda {

// Writes mean[s][g], the mean of stratum g in resample s, with the same bytes as cpu::bootstrap. value: the values of
// stratum 0, then those of stratum 1, and so on; length: [strata], how many values each stratum has, at least 1; mean:
// [resamples, strata]. value, length and mean are in GPU memory.
void bootstrap(const double* value, const std::int64_t* length, std::uint64_t seed, Rows<double> mean, Stream stream);

}  // namespace shiftbench::cuda
