// Packs rows rounded to 16-bit integers, two of which take the place of one float, so that tiles of scores are computed
// about twice as fast. A row is approximated by step * q, where `step` is a float and q is a vector of integers with a
// norm below 2^15.5. By the Cauchy-Schwarz inequality no inner product of two such vectors reaches 2^31, so sums of 32
// bits do not overflow. For the files of csrc/kernels/ only (tile.h, "Linkage").
#pragma once

#include <cstdint>
#include <cstring>

#include "tile.h"
#include "transpose.h"

#ifdef __AVX512VNNI__
#include <immintrin.h>

namespace {

// The sixteen elements x[0 .. 15] as floats. Where `valid` is less than 16, only the first `valid` of them are read,
// and the others are 0.
template <class E>
__m512 sixteen(const E* x, std::int64_t valid) {
    alignas(64) float wide[16] = {};
    if (valid >= 16)
        for (int i = 0; i < 16; ++i) wide[i] = float(x[i]);
    else
        for (std::int64_t i = 0; i < valid; ++i) wide[i] = float(x[i]);
    return _mm512_load_ps(wide);
}

inline __m512 sixteen(const float* x, std::int64_t valid) {
    const unsigned mask = valid < 16 ? (1u << valid) - 1 : 0xffffu;
    return _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), x);
}

// Adds the squares of the sixteen elements of x to the eight lanes of `sum`, in double: lane i gets the squares of the
// elements i and i + 8.
inline __m512d add_squares(__m512 x, __m512d sum) {
    const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(x));
    const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
    return _mm512_fmadd_pd(low, low, _mm512_fmadd_pd(high, high, sum));
}

// The square root of the sum of the lanes. It uses an intrinsic, because std::sqrt might become a function that the
// linker shares among instruction sets.
inline double root_of_total(__m512d sum) {
    return _mm_cvtsd_f64(_mm_sqrt_sd(_mm_setzero_pd(), _mm_set_sd(_mm512_reduce_add_pd(sum))));
}

// Bounds of q's norm and of the magnitude of its elements. Both are a little smaller than 2^15.5 = 46341 and 2^15 - 1 =
// 32767, because rounding the step to a float may enlarge q.
constexpr double max_norm_of_q = 46300, max_element_of_q = 32760;
constexpr double min_step = 1e-35;  // a float whose reciprocal is finite

// A step with which a row's q stays within its bounds, about the smallest one, but at least min_step.
template <class E>
float step_of(const E* row, std::int64_t width) {
    __m512 largest = _mm512_setzero_ps();
    __m512d sum = _mm512_setzero_pd();
    for (std::int64_t begin = 0; begin < width; begin += 16) {
        const __m512 x = sixteen(row + begin, width - begin);
        largest = _mm512_max_ps(largest, _mm512_abs_ps(x));
        sum = add_squares(x, sum);
    }
    // Rounding may add 1/2 to each element and so sqrt(width) / 2 to the norm.
    const double max_norm = max_norm_of_q - root_of_total(_mm512_set_pd(0, 0, 0, 0, 0, 0, 0, double(width))) / 2;
    const double by_norm = root_of_total(sum) / (max_norm > 1 ? max_norm : 1);
    const double by_largest = double(_mm512_reduce_max_ps(largest)) / max_element_of_q;
    const double step = by_norm > by_largest ? by_norm : by_largest;
    return float(step > min_step ? step : min_step);
}

// A float that is not below x, for x >= 0. The factor makes up for rounding to 24 bits; the summand, which is about the
// smallest normal float, makes up for the coarser rounding of subnormal numbers. 0 stays 0.
inline float round_up(double x) { return x > 0 ? float(1.000001 * x + 1.2e-38) : 0; }

// Rounds a row to integers q. A slot holds two consecutive elements of q. Calls put(first_slot, slots) for 16 slots at
// a time, of which those after the row's end hold zeros. Returns the norm of (row - step * q). One pass over the row.
template <class E, class F>
double round_row(const E* row, std::int64_t width, float step, const F& put) {
    const __m512 broadcast_step = _mm512_set1_ps(step), inverse_step = _mm512_set1_ps(1 / step);
    __m512d squared_error = _mm512_setzero_pd();
    const auto quantize = [&](std::int64_t begin) {
        const __m512 x = sixteen(row + begin, width - begin);
        const __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse_step));
        squared_error = add_squares(_mm512_fnmadd_ps(_mm512_cvtepi32_ps(q), broadcast_step, x), squared_error);
        return _mm512_cvtepi32_epi16(q);
    };
    for (std::int64_t begin = 0; begin < width; begin += 32) {
        const __m256i low = quantize(begin), high = begin + 16 < width ? quantize(begin + 16) : _mm256_setzero_si256();
        put(begin / 2, _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
    }
    return root_of_total(squared_error);
}

// How many of the 16 slots from slot `place` on belong to a row of this width.
inline std::int64_t slots_from(std::int64_t place, std::int64_t width) {
    const std::int64_t left = (width + 1) / 2 - place;
    return left < 16 ? left : 16;
}

// Stores the first `used` of 16 slots, slot j at to + j * lanes.
inline void scatter(__m512i slots, std::int64_t used, std::int64_t lanes, float* to) {
    alignas(64) std::int32_t each[16];
    _mm512_store_si512(each, slots);
    for (std::int64_t j = 0; j < used; ++j) std::memcpy(to + j * lanes, &each[j], sizeof(float));
}

// Packs a tile of words. `packed` begins with two groups of `lanes` floats: the step of each row, and the norm of (row
// - step * q), rounded up. Then come the slots, slot 0 of all rows first. Rows that are missing become 0. Complete
// squares of 16 rows by 16 slots are first stored row by row and then transposed in place; the remaining slots are
// scattered one by one.
template <class E>
void pack_words_rounded(const E* first_row, std::int64_t stride, std::int64_t rows, std::int64_t width, float* packed) {
    constexpr int lanes = tile_words<float>;
    static_assert(lanes == 32);
    float* slot = packed + 2 * lanes;
    std::memset(packed, 0, 2 * lanes * sizeof(float));
    for (int half = 0; half < 2; ++half) {
        for (std::int64_t r = half * 16; r < half * 16 + 16; ++r) {
            const auto put = [&](std::int64_t place, __m512i slots) {
                const std::int64_t used = slots_from(place, width);
                if (used == 16)
                    _mm512_storeu_si512(slot + (place + r % 16) * lanes + half * 16, slots);
                else
                    scatter(slots, used, lanes, slot + place * lanes + r);
            };
            if (r < rows) {
                packed[r] = step_of(first_row + r * stride, width);
                packed[lanes + r] = round_up(round_row(first_row + r * stride, width, packed[r], put));
            } else {
                for (std::int64_t place = 0; place < (width + 1) / 2; place += 16) put(place, _mm512_setzero_si512());
            }
        }
        for (std::int64_t place = 0; place + 16 <= (width + 1) / 2; place += 16) {
            Vector<float> square[16];
#pragma GCC unroll 16
            for (int i = 0; i < 16; ++i) std::memcpy(&square[i], slot + (place + i) * lanes + half * 16, 64);
            transpose<8, float>(square);
#pragma GCC unroll 16
            for (int i = 0; i < 16; ++i) std::memcpy(slot + (place + i) * lanes + half * 16, &square[i], 64);
        }
    }
}

// Packs a tile of directions in the same layout, with tile_directions in the place of `lanes`. There are few
// directions, so all their slots are scattered one by one.
inline void pack_directions_rounded(const float* first_row, std::int64_t stride, std::int64_t rows, std::int64_t width,
                                    float* packed) {
    float* slot = packed + 2 * tile_directions;
    std::memset(packed, 0, std::size_t(2 + (width + 1) / 2) * tile_directions * sizeof(float));
    for (std::int64_t r = 0; r < rows; ++r) {
        const auto put = [&](std::int64_t place, __m512i slots) {
            scatter(slots, slots_from(place, width), tile_directions, slot + place * tile_directions + r);
        };
        packed[r] = step_of(first_row + r * stride, width);
        packed[tile_directions + r] = round_up(round_row(first_row + r * stride, width, packed[r], put));
    }
}

}  // namespace

#endif
