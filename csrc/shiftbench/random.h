// Counter-based random numbers. The number at `position` of resample `draw` is a function of (seed, draw, position)
// alone, so any thread and any device can compute any of them, and all of them compute the same.
#pragma once

#include <cstdint>

#include "formulas.h"

namespace shiftbench {

// The increment of SplitMix64 (Steele, Lea and Flood 2014): 2^64 divided by the golden ratio, rounded to an odd number.
constexpr std::uint64_t splitmix_step = 0x9e3779b97f4a7c15u;

// The output function of SplitMix64, with the shifts and multipliers of Stafford's variant 13. It is a bijection, and
// every bit of its input influences every bit of its output.
SHIFTBENCH_INLINE std::uint64_t splitmix_output(std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

// The random bits of one resample: a SplitMix64 stream whose initial state is itself mixed from the seed and the number
// of the resample. Each output of 64 bits serves two positions, with 32 bits each.
class Draw {
public:
    SHIFTBENCH_SHARED Draw(std::uint64_t seed, std::uint64_t draw)
        : state_(splitmix_output(splitmix_output(seed + splitmix_step) + splitmix_step * (draw + 1))) {}

    // The bits of position 2 * pair in the low half, and those of position 2 * pair + 1 in the high half.
    SHIFTBENCH_SHARED std::uint64_t operator[](std::uint64_t pair) const {
        return splitmix_output(state_ + splitmix_step * (pair + 1));
    }

private:
    std::uint64_t state_;
};

// Maps 32 random bits to an index in [0, count). Each index has the same probability, up to a relative error of
// count / 2^32. count: at most 2^32.
SHIFTBENCH_INLINE std::uint64_t index_below(std::uint64_t count, std::uint32_t bits) { return (count * bits) >> 32; }

// The number of consecutive positions whose random bits are computed together. A stratum's sum is the sum of one
// partial sum for each such block, so CPU and GPU must use the same size to round alike. The bits of 512 positions, 4
// bytes each, take 2 kB, which leaves most of the innermost cache to the values.
constexpr std::int64_t draw_block = 512;

// The sum of `count` values drawn with replacement from value[0 .. values - 1]. bits(i) gives the 32 random bits that
// choose the i-th of the drawn values. Four running sums let four additions be under way at once. The order of all
// additions is fixed, so the result is the same on every device.
template <class Bits>
SHIFTBENCH_INLINE double drawn_sum(const double* value, std::uint64_t values, std::int64_t count, const Bits& bits) {
    double sum[4] = {};
    std::int64_t i = 0;
    for (; i + 4 <= count; i += 4)
        for (std::int64_t lane = 0; lane < 4; ++lane) sum[lane] += value[index_below(values, bits(i + lane))];
    for (; i < count; ++i) sum[0] += value[index_below(values, bits(i))];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

}  // namespace shiftbench
