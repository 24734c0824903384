// Random numbers that are computed, not drawn in turn: number `position` of draw `draw` depends on these two and the
// seed alone, so any thread, and any device, may make any of them.
#pragma once

#include <cstdint>

namespace shiftbench {

constexpr std::uint64_t golden = 0x9e3779b97f4a7c15u;  // 2^64 over the golden ratio: SplitMix64's step

// SplitMix64's output function (Steele, Lea and Flood 2014): a bijection whose every input bit reaches every output bit.
inline std::uint64_t mix(std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

// One draw is one SplitMix64 stream, from a state that is itself mixed from seed and draw; each output serves two
// positions, 32 bits each.
class Draw {
public:
    Draw(std::uint64_t seed, std::uint64_t draw) : state_(mix(mix(seed + golden) + golden * (draw + 1))) {}

    // The bits of positions 2 * pair (the low half) and 2 * pair + 1 (the high half).
    std::uint64_t operator[](std::uint64_t pair) const { return mix(state_ + golden * (pair + 1)); }

private:
    std::uint64_t state_;
};

// 0 .. count - 1, each as likely as the others to within count / 2^32.
inline std::uint64_t below(std::uint64_t count, std::uint32_t bits) { return (count * bits) >> 32; }

}  // namespace shiftbench
