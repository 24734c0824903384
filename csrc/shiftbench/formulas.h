// What the CPU and a GPU compute alike, number by number. The tests of the CPU's version cover both.
#pragma once

#include <cmath>
#include <cstdint>

#ifdef __CUDACC__
#define SHIFTBENCH_SHARED __host__ __device__
#else
#define SHIFTBENCH_SHARED
#endif
// Always inlined on the CPU: a copy of its own, compiled for one instruction set, could be linked into another's code.
#define SHIFTBENCH_INLINE [[gnu::always_inline]] inline SHIFTBENCH_SHARED

namespace shiftbench {

// The order of `dot`: sixteen running sums per stretch, added as a tree; then stretch after stretch.
constexpr std::int64_t dot_lanes = 16, dot_stretch = 256;

SHIFTBENCH_INLINE bool finite(double x) { return x - x == 0; }

// In double whatever the importance's type: a level is a step function, and a step must not fall to rounding.
// The 1e-7 keeps a response token that the model finds improbable from getting full levels.
SHIFTBENCH_INLINE std::uint8_t level_of(double importance, double largest, int levels) {
    return static_cast<std::uint8_t>(std::ceil(levels * ((importance > 0 ? importance : 0.0) / (largest + 1e-7))));
}

// Importance density before it is divided by the prompt's largest, from the sums of a token's levels and of their
// p-th powers.
SHIFTBENCH_INLINE double density_ratio(double l1, double power, double p_norm) {
    return l1 / (std::pow(power, 1 / p_norm) + 1e-9);
}
SHIFTBENCH_INLINE double density_of(double ratio, double largest) { return ratio / (largest + 1e-9); }

// Words by the magnitude of their scores, largest first, ties to the lower index.
template <class T>
SHIFTBENCH_INLINE bool precedes(T score, std::uint32_t word, T other, std::uint32_t other_word) {
    const T x = score < 0 ? -score : score, y = other < 0 ? -other : other;
    return x > y || (x == y && word < other_word);
}

// Two words co-occur whose cosine is above both cutoffs (nan is above none).
SHIFTBENCH_INLINE bool cooccur(double cosine, double cutoff, double other_cutoff) {
    return cosine > cutoff && cosine > other_cutoff;
}

// One number of a norm's derivative: rho (d - mean - hat along).
template <class V, class S>
SHIFTBENCH_INLINE V norm_derivative(V d, V hat, S mean, S along, S rho) {
    return (d - mean - hat * along) * rho;
}

// A pair of numbers turned by an angle.
template <class T>
SHIFTBENCH_INLINE void turn_by(T cosine, T sine, T& first, T& second) {
    const T x = first, y = second;
    first = x * cosine - y * sine;
    second = y * cosine + x * sine;
}

}  // namespace shiftbench
