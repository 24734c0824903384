// The stratified bootstrap (shiftbench/bootstrap.h) on a GPU.
#pragma once

#include <cstdint>

#include "grid.h"
#include "shiftbench/view.h"

namespace shiftbench::cuda {

// mean[s][g], with the bytes that the CPU computes. length: [strata]; mean: [resamples, strata]. All in GPU memory.
void bootstrap(const double* value, const std::int64_t* length, std::uint64_t seed, Rows<double> mean, Stream stream);

}  // namespace shiftbench::cuda
