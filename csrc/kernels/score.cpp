// Tiles of approximate scores: a matrix product of packed directions and packed words whose results stay in registers
// and the innermost cache. Compiled with fused multiply-adds, so the last bits depend on the instruction set. That is
// allowed because these scores only choose candidates (shiftbench/vocab_topk.h).
#include "score.h"

#include <cstring>

#include "tile.h"

#ifdef __AVX512VNNI__
#include <immintrin.h>
#endif

namespace {

// Which directions of a tile have a score that reaches their threshold: bit d of the result is set if one of direction
// d's scores has a magnitude of at least threshold[d].
template <class T>
std::uint32_t reaching(const T* score, const T* threshold) {
    std::uint32_t reached = 0;
    for (int d = 0; d < tile_directions; ++d) {
        int any = 0;
        for (int w = 0; w < tile_words<T>; ++w) {
            const T x = score[d * tile_words<T> + w];
            any |= (x < 0 ? -x : x) >= threshold[d];
        }
        reached |= std::uint32_t(any) << d;
    }
    return reached;
}

// Computes one tile of scores (Tiles::score). Reads `width` slots, one for each element of a row, of the packed
// directions and of the packed words, once.
template <class T>
std::uint32_t score_tile(const T* direction, const T* word, std::int64_t width, const T* threshold, T* score) {
    constexpr int lanes = lanes_of<T>;
    Vector<T> sum[tile_directions][2] = {};
    for (std::int64_t i = 0; i < width; ++i) {
        Vector<T> left, right;
        std::memcpy(&left, word, sizeof left);
        std::memcpy(&right, word + lanes, sizeof right);
#pragma GCC unroll 16
        for (int d = 0; d < tile_directions; ++d) {
            sum[d][0] += direction[d] * left;
            sum[d][1] += direction[d] * right;
        }
        word += 2 * lanes;
        direction += tile_directions;
    }
    std::memcpy(score, sum, sizeof sum);
    return reaching(score, threshold);
}

#ifdef __AVX512VNNI__

// Computes one tile of scores (Tiles::score) of rows that rounded.h packed. Two of the `slots` are the rows' steps and
// errors; the loop starts after them. The sums are integers and exact; score = sum * step of the direction * step of
// the word.
std::uint32_t rounded_tile(const float* direction, const float* word, std::int64_t slots, const float* threshold,
                           float* score) {
    __m512i sum[tile_directions][2] = {};
    for (std::int64_t i = 2; i < slots; ++i) {
        const __m512i left = _mm512_loadu_si512(word + i * tile_words<float>);
        const __m512i right = _mm512_loadu_si512(word + i * tile_words<float> + 16);
#pragma GCC unroll 16
        for (int d = 0; d < tile_directions; ++d) {
            std::int32_t pair;
            std::memcpy(&pair, direction + i * tile_directions + d, sizeof pair);
            sum[d][0] = _mm512_dpwssd_epi32(sum[d][0], _mm512_set1_epi32(pair), left);
            sum[d][1] = _mm512_dpwssd_epi32(sum[d][1], _mm512_set1_epi32(pair), right);
        }
    }
    alignas(64) std::int32_t sums[tile_directions][tile_words<float>];
#pragma GCC unroll 16
    for (int d = 0; d < tile_directions; ++d) {
        _mm512_store_si512(sums[d], sum[d][0]);
        _mm512_store_si512(sums[d] + 16, sum[d][1]);
    }
    std::uint32_t reached = 0;
    for (int d = 0; d < tile_directions; ++d) {
        const __m512 bound = _mm512_set1_ps(threshold[d]), step = _mm512_set1_ps(direction[d]);
        for (int half = 0; half < 2; ++half) {
            const __m512 both_steps = _mm512_mul_ps(_mm512_loadu_ps(word + half * 16), step);
            const __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums[d] + half * 16)), both_steps);
            _mm512_storeu_ps(score + d * tile_words<float> + half * 16, value);
            const __mmask16 reaches = _mm512_cmp_ps_mask(_mm512_abs_ps(value), bound, _CMP_GE_OQ);
            reached |= std::uint32_t(reaches != 0) << d;
        }
    }
    return reached;
}

#endif

}  // namespace

namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS {

std::uint32_t score(const float* direction, const float* word, std::int64_t width, const float* threshold,
                    float* score) {
    return score_tile(direction, word, width, threshold, score);
}
std::uint32_t score(const double* direction, const double* word, std::int64_t width, const double* threshold,
                    double* score) {
    return score_tile(direction, word, width, threshold, score);
}
#ifdef __AVX512VNNI__
std::uint32_t score_rounded(const float* direction, const float* word, std::int64_t slots, const float* threshold,
                            float* score) {
    return rounded_tile(direction, word, slots, threshold, score);
}
#endif

}  // namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS
