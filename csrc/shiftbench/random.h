// Random numbers that are computed, not drawn in turn: number `position` of draw `draw` depends on these two and the
// seed alone, so any thread, and any device, may make any of them.
#pragma once

#include <cstdint>

#include "formulas.h"

namespace shiftbench {

constexpr std::uint64_t golden = 0x9e3779b97f4a7c15u;  // 2^64 over the golden ratio: SplitMix64's step

// SplitMix64's output function (Steele, Lea and Flood 2014): a bijection whose every input bit reaches every output
// bit.
SHIFTBENCH_INLINE std::uint64_t mix(std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

// One draw is one SplitMix64 stream, from a state that is itself mixed from seed and draw; each output serves two
// positions, 32 bits each.
class Draw {
public:
    SHIFTBENCH_SHARED Draw(std::uint64_t seed, std::uint64_t draw)
        : state_(mix(mix(seed + golden) + golden * (draw + 1))) {}

    // The bits of positions 2 * pair (the low half) and 2 * pair + 1 (the high half).
    SHIFTBENCH_SHARED std::uint64_t operator[](std::uint64_t pair) const { return mix(state_ + golden * (pair + 1)); }

private:
    std::uint64_t state_;
};

// 0 .. count - 1, each as likely as the others to within count / 2^32.
SHIFTBENCH_INLINE std::uint64_t below(std::uint64_t count, std::uint32_t bits) { return (count * bits) >> 32; }

// The sum of the values drawn for positions 0 .. count - 1 of a block, bits(i) being position i's. Four sums, so that
// an addition need not wait for the one before; their order is fixed.
template <class Bits>
SHIFTBENCH_INLINE double drawn_sum(const double* value, std::uint64_t values, std::int64_t count, const Bits& bits) {
    double sum[4] = {};
    std::int64_t i = 0;
    for (; i + 4 <= count; i += 4)
        for (std::int64_t lane = 0; lane < 4; ++lane) sum[lane] += value[below(values, bits(i + lane))];
    for (; i < count; ++i) sum[0] += value[below(values, bits(i))];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

constexpr std::int64_t draw_block = 512;  // positions whose random bits are made at a time: 2 kB

}  // namespace shiftbench
