// Tiles::score (shiftbench/kernels.h), which score.cpp defines and exact.cpp puts into the table of the instruction
// set.
#pragma once

#include <cstdint>

namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS {

std::uint32_t score(const float* direction, const float* word, std::int64_t width, const float* threshold,
                    float* score);
std::uint32_t score(const double* direction, const double* word, std::int64_t width, const double* threshold,
                    double* score);
std::uint32_t score_rounded(const float* direction, const float* word, std::int64_t slots, const float* threshold,
                            float* score);

}  // namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS
