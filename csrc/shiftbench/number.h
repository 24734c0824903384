// The 16-bit floating-point types of stored tensors, which the core reads and converts but never computes in; and the
// type in which importances are summed.
#pragma once

#include <cstdint>
#include <cstring>

#include "formulas.h"

namespace shiftbench {

SHIFTBENCH_INLINE float float_of_bits(std::uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// A bfloat16 number: the upper 16 bits of a float.
struct bfloat16 {
    std::uint16_t bits;

    [[gnu::always_inline]] SHIFTBENCH_SHARED operator float() const { return float_of_bits(std::uint32_t{bits} << 16); }
};

// A number in IEEE 754 half precision.
struct float16 {
    std::uint16_t bits;

    [[gnu::always_inline]] SHIFTBENCH_SHARED operator float() const {
        const std::uint32_t sign = (bits & 0x8000u) << 16, magnitude = (bits & 0x7fffu) << 13;
        if ((bits & 0x7c00u) == 0x7c00u) return float_of_bits(sign | magnitude | 0x7f800000u);  // inf, nan
        // The exponent's bias is 15 here and 127 in a float, so these bits, read as a float, are 2^(127 - 15) times too
        // small. The multiplication is exact, for subnormal numbers too.
        return float_of_bits(sign | magnitude) * 0x1p112f;
    }
};

// The type in which importances are summed and stored if gradients and embeddings have type T: double for double, float
// for the others. Densities have it too, if they are computed from gradients of type T or from given levels of type T.
template <class T>
struct accumulator {
    using type = float;
};
template <>
struct accumulator<double> {
    using type = double;
};
template <class T>
using accumulator_t = typename accumulator<T>::type;

}  // namespace shiftbench
