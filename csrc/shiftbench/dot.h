// An inner product whose rounding is the same on every machine and for every number of threads.
#pragma once

#include <algorithm>
#include <cstdint>

namespace shiftbench::cpu {

// Summed in type A. Sixteen running sums per stretch, added as a tree; then stretch after stretch. The order is fixed,
// vectorises without -ffast-math, and its rounding error grows with 16 + n / 256 where a running sum's grows with n.
template <class A, class X, class Y>
A dot(const X* x, const Y* y, std::int64_t n) {
    constexpr std::int64_t lanes = 16, stretch = 256;
    A total = 0;
    for (std::int64_t begin = 0; begin < n; begin += stretch) {
        const std::int64_t end = std::min(n, begin + stretch), whole = begin + (end - begin) / lanes * lanes;
        A sum[lanes] = {};
        for (std::int64_t i = begin; i < whole; i += lanes)
            for (std::int64_t lane = 0; lane < lanes; ++lane) sum[lane] += A(x[i + lane]) * A(y[i + lane]);
        for (std::int64_t i = whole; i < end; ++i) sum[i - whole] += A(x[i]) * A(y[i]);
        for (std::int64_t half = lanes / 2; half > 0; half /= 2)
            for (std::int64_t lane = 0; lane < half; ++lane) sum[lane] += sum[lane + half];
        total += sum[0];
    }
    return total;
}

}  // namespace shiftbench::cpu
