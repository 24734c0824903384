// The functions for Tiles::score (shiftbench/kernels.h): each computes one tile of scores. score.cpp defines them, and
// exact.cpp puts them into the table of the instruction set.
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
