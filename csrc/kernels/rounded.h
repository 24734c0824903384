// Rows rounded to 16-bit whole numbers, two in the room of a float, for tiles of scores that are made twice as fast.
// A row is a step times whole numbers whose norm is below 2^15.5, so that no inner product of two rows leaves 32 bits.
#pragma once

#include <cstdint>
#include <cstring>

#include "tile.h"
#include "transpose.h"

#ifdef __AVX512VNNI__
#include <immintrin.h>

namespace {

// Sixteen numbers; what there is behind the first `there` of them is zero.
template <class E>
__m512 sixteen(const E* x, std::int64_t there) {
    alignas(64) float wide[16] = {};
    if (there >= 16)
        for (int i = 0; i < 16; ++i) wide[i] = float(x[i]);
    else
        for (std::int64_t i = 0; i < there; ++i) wide[i] = float(x[i]);
    return _mm512_load_ps(wide);
}

inline __m512 sixteen(const float* x, std::int64_t there) {
    const unsigned mask = there < 16 ? (1u << there) - 1 : 0xffffu;
    return _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), x);
}

inline __m512d add_squares(__m512 x, __m512d sum) {
    const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(x));
    const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
    return _mm512_fmadd_pd(low, low, _mm512_fmadd_pd(high, high, sum));
}

inline double root(__m512d sum) {
    return _mm_cvtsd_f64(_mm_sqrt_sd(_mm_setzero_pd(), _mm_set_sd(_mm512_reduce_add_pd(sum))));
}

constexpr double longest_whole = 46300;  // 2^15.5 is 46341: room for what the step's own rounding adds
constexpr double largest_whole = 32760;  // of 16 bits, again with room
constexpr double smallest_step = 1e-35;  // its inverse is finite

// The smallest step that a row may have.
template <class E>
float step_of(const E* row, std::int64_t width) {
    __m512 most = _mm512_setzero_ps();
    __m512d sum = _mm512_setzero_pd();
    for (std::int64_t begin = 0; begin < width; begin += 16) {
        const __m512 x = sixteen(row + begin, width - begin);
        most = _mm512_max_ps(most, _mm512_abs_ps(x));
        sum = add_squares(x, sum);
    }
    // Rounding may add half to each whole number.
    const double longest = longest_whole - root(_mm512_set_pd(0, 0, 0, 0, 0, 0, 0, double(width))) / 2;
    const double by_norm = root(sum) / (longest > 1 ? longest : 1);
    const double by_largest = double(_mm512_reduce_max_ps(most)) / largest_whole;
    const double step = by_norm > by_largest ? by_norm : by_largest;
    return float(step > smallest_step ? step : smallest_step);
}

// At least so much as a float: rounding down would matter most where it is hardly a normal number.
inline float at_least(double lost) { return lost > 0 ? float(1.000001 * lost + 1.2e-38) : 0; }

// Slots of one row, 16 at a time to put(place, slots): two consecutive numbers each. Returns the norm of what is lost.
template <class E, class F>
double round_row(const E* row, std::int64_t width, float step, const F& put) {
    const __m512 of_step = _mm512_set1_ps(step), per_step = _mm512_set1_ps(1 / step);
    __m512d lost = _mm512_setzero_pd();
    const auto whole = [&](std::int64_t begin) {
        const __m512 x = sixteen(row + begin, width - begin);
        const __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(x, per_step));
        lost = add_squares(_mm512_fnmadd_ps(_mm512_cvtepi32_ps(q), of_step, x), lost);
        return _mm512_cvtepi32_epi16(q);
    };
    for (std::int64_t begin = 0; begin < width; begin += 32) {
        const __m256i low = whole(begin), high = begin + 16 < width ? whole(begin + 16) : _mm256_setzero_si256();
        put(begin / 2, _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
    }
    return root(lost);
}

inline std::int64_t slots_from(std::int64_t place, std::int64_t width) {
    const std::int64_t left = (width + 1) / 2 - place;
    return left < 16 ? left : 16;
}

// The first `used` slots, each `lanes` numbers behind the one before.
inline void scatter(__m512i slots, std::int64_t used, std::int64_t lanes, float* to) {
    alignas(64) std::int32_t each[16];
    _mm512_store_si512(each, slots);
    for (std::int64_t j = 0; j < used; ++j) std::memcpy(to + j * lanes, &each[j], sizeof(float));
}

// Packed rows begin with each row's step, and with the norm of what its rounding takes away. Whole squares of 16 rows
// by 16 slots are written as they are and then transposed where they stand, the rest slot by slot.
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
                packed[lanes + r] = at_least(round_row(first_row + r * stride, width, packed[r], put));
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

inline void pack_directions_rounded(const float* first_row, std::int64_t stride, std::int64_t rows, std::int64_t width,
                                    float* packed) {
    float* slot = packed + 2 * tile_directions;
    std::memset(packed, 0, std::size_t(2 + (width + 1) / 2) * tile_directions * sizeof(float));
    for (std::int64_t r = 0; r < rows; ++r) {
        const auto put = [&](std::int64_t place, __m512i slots) {
            scatter(slots, slots_from(place, width), tile_directions, slot + place * tile_directions + r);
        };
        packed[r] = step_of(first_row + r * stride, width);
        packed[tile_directions + r] = at_least(round_row(first_row + r * stride, width, packed[r], put));
    }
}

}  // namespace

#endif
