// The stratified bootstrap (Efron 1979): means of observations that are drawn again with replacement, within strata.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "parallel.h"
#include "random.h"
#include "view.h"

namespace shiftbench::cpu {

// mean[s][g] = (1 / length[g]) * sum of length[g] values drawn with replacement from stratum g, in resample s. value:
// the values of stratum 0, then those of stratum 1, and so on, sum(length) in all; no stratum is empty. mean:
// [resamples, strata]. The draws of a resample have the positions 0 .. sum(length) - 1, through all strata. The random
// bits of a draw depend on (seed, s, position) alone, and which value of its stratum they choose depends on length[g]
// besides. One pass over the positions per resample; random bits are computed for draw_block positions together and
// stay in the innermost cache.
inline void bootstrap(const double* value, const std::vector<std::int64_t>& length, std::uint64_t seed,
                      Rows<double> mean) {
    constexpr std::int64_t block = draw_block;
    constexpr std::int64_t cost_per_position = 4;  // one each: random bits, index, load, addition
    std::int64_t positions = 0;
    for (const std::int64_t count : length) positions += count;
    parallel_for(mean.rows, grain_of(cost_per_position * positions), [&](std::int64_t begin, std::int64_t end) {
        std::array<std::uint32_t, block> bits;  // the bits of the positions [ready - block, ready)
        for (std::int64_t s = begin; s < end; ++s) {
            const Draw draw(seed, static_cast<std::uint64_t>(s));
            std::int64_t position = 0, ready = 0;
            for (std::size_t g = 0; g < length.size(); ++g) {
                const std::int64_t first = position, last = first + length[g];
                const auto count = static_cast<std::uint64_t>(length[g]);
                double total = 0;
                while (position < last) {
                    if (position == ready) {
                        const std::int64_t wanted = std::min(block, positions - ready);
                        for (std::size_t pair = 0; pair < static_cast<std::size_t>(wanted + 1) / 2; ++pair) {
                            const std::uint64_t both = draw[static_cast<std::uint64_t>(ready) / 2 + pair];
                            bits[2 * pair] = static_cast<std::uint32_t>(both);
                            bits[2 * pair + 1] = static_cast<std::uint32_t>(both >> 32);
                        }
                        ready += block;
                    }
                    const std::int64_t stop = std::min(last, ready);
                    const std::uint32_t* own = bits.data() + (position + block - ready);
                    total += drawn_sum(value + first, count, stop - position, [&](std::int64_t i) { return own[i]; });
                    position = stop;
                }
                mean[s][static_cast<std::int64_t>(g)] = total / static_cast<double>(length[g]);
            }
        }
    });
}

}  // namespace shiftbench::cpu
