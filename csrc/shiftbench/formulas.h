// Formulas that the CPU's loops and the GPU's kernels share, so that there is one definition of each. Tests of the
// CPU's version therefore test the formulas of both.
#pragma once

#include <cmath>
#include <cstdint>

#ifdef __CUDACC__
#define SHIFTBENCH_SHARED __host__ __device__
#else
#define SHIFTBENCH_SHARED
#endif
// Functions that files of csrc/kernels/ call are inlined always. If one of them were compiled as a function of its own,
// the linker would keep one copy for all instruction sets, and that copy might use instructions that the CPU lacks.
#define SHIFTBENCH_INLINE [[gnu::always_inline]] inline SHIFTBENCH_SHARED

namespace shiftbench {

// The order in which `dot` sums n products, on every device and with every instruction set. The products are taken in
// stretches of `dot_stretch`. Within a stretch, product i is added to running sum i % dot_lanes; the running sums are
// then added as a binary tree (sum s and sum s + 8, then s and s + 4, and so on); the sums of the stretches are added
// one after another. 16 running sums of float fill one AVX-512 vector, and a whole number of vectors in every other
// instruction set. 256 products per stretch keep the rounding error small (it grows with 16 + n / 256) while the tree,
// which costs 15 additions, stays cheap.
constexpr std::int64_t dot_lanes = 16, dot_stretch = 256;

// Whether x is neither nan nor infinite.
SHIFTBENCH_INLINE bool finite(double x) { return x - x == 0; }

// The paper's stabilisers (docs/mathematics.md, "Attribution of a response to its prompt"). `level_eps` is added to the
// largest importance when levels are computed. So a response token whose largest importance is not much above it does
// not reach the full levels. `density_eps` is added to both divisors of the density, which may be 0.
constexpr double level_eps = 1e-7, density_eps = 1e-9;

// level = ceil(levels * (max(0, importance) / (largest + level_eps))), from 0 to `levels`. `largest` is the largest
// importance that any prompt token has for the same response token, or 0 if none is positive. Computed in double
// whatever the type of the importance: a level is a step function, and rounding must not move an importance across a
// step.
SHIFTBENCH_INLINE std::uint8_t level_of(double importance, double largest, int levels) {
    return static_cast<std::uint8_t>(std::ceil(levels * ((importance > 0 ? importance : 0.0) / (largest + level_eps))));
}

// The importance density of a prompt token before it is divided by the prompt's largest: l1 / (lp + density_eps).
// l1 is the sum of the token's levels above the cutoff; lp = power ^ (1 / p_norm), where `power` is the sum of the
// p_norm-th powers of the same levels.
SHIFTBENCH_INLINE double density_ratio(double l1, double power, double p_norm) {
    return l1 / (std::pow(power, 1 / p_norm) + density_eps);
}
// The importance density of a prompt token: its ratio (density_ratio) divided by `largest` + density_eps, where
// `largest` is the largest ratio of the prompt's tokens.
SHIFTBENCH_INLINE double density_of(double ratio, double largest) { return ratio / (largest + density_eps); }

// Whether `word` comes before `other_word` in a top-k list: by the magnitude of the score, largest first; of two words
// with equal magnitude, the one with the lower index.
template <class T>
SHIFTBENCH_INLINE bool precedes(T score, std::uint32_t word, T other_score, std::uint32_t other_word) {
    const T magnitude = score < 0 ? -score : score, other_magnitude = other_score < 0 ? -other_score : other_score;
    return magnitude > other_magnitude || (magnitude == other_magnitude && word < other_word);
}

// Whether the cosine of two words is above the cutoffs of both; false where one of the three is nan. Words that
// co-occur must also be spelled differently, which the callers check.
SHIFTBENCH_INLINE bool cooccur(double cosine, double cutoff, double other_cutoff) {
    return cosine > cutoff && cosine > other_cutoff;
}

// One element of a norm's Jacobian times a derivative: rho * (derivative - mean - hat * along). stages.h
// (NormDerivative) explains the symbols; `derivative` is what is called x there, and the mean is 0 where the norm does
// not centre. V is a number or a vector of numbers.
template <class V, class S>
SHIFTBENCH_INLINE V norm_derivative_element(V derivative, V hat, S mean, S along, S rho) {
    return (derivative - mean - hat * along) * rho;
}

// Rotates the vector (first, second) in place, by the angle with this cosine and sine.
template <class T>
SHIFTBENCH_INLINE void rotate_pair(T cosine, T sine, T& first, T& second) {
    const T x = first, y = second;
    first = x * cosine - y * sine;
    second = y * cosine + x * sine;
}

}  // namespace shiftbench
