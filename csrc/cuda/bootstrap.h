// shiftbench/bootstrap.h on a GPU.
#pragma once

#include <cstdint>

#include "grid.h"
#include "shiftbench/view.h"

namespace shiftbench::cuda {

// mean[s][g], as on the CPU to the last bit. length: of the mean.cols strata.
void bootstrap(const double* value, const std::int64_t* length, std::uint64_t seed, Rows<double> mean, Stream stream);

}  // namespace shiftbench::cuda
