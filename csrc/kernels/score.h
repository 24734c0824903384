// What csrc/kernels/score.cpp gives to exact.cpp of the same instruction set.
#pragma once

#include <cstdint>

namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS {

std::uint32_t score(const float*, const float*, std::int64_t, const float*, float*);
std::uint32_t score(const double*, const double*, std::int64_t, const double*, double*);
std::uint32_t score_rounded(const float*, const float*, std::int64_t, const float*, float*);

}  // namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS
