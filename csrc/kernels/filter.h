// Tiles::keep_at_least (shiftbench/kernels.h): copies the elements whose magnitude reaches a threshold. For the files
// of csrc/kernels/ only (tile.h, "Linkage").
#pragma once

#include <cstdint>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

#ifdef __AVX512F__

// Takes one vector at a time and compresses it in a register. With the scalar loop below, this step took a sixth as
// long as the computation of the scores, for a vocabulary of 12,000 words.
std::int64_t keep_at_least(const float* x, const std::uint32_t* word, std::int64_t n, float threshold, float* kept,
                           std::uint32_t* kept_word) {
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < n; i += 16) {
        const auto valid = static_cast<__mmask16>(n - i < 16 ? (1u << (n - i)) - 1 : 0xffffu);
        const __m512 value = _mm512_maskz_loadu_ps(valid, x + i);
        const __m512i loaded_word = _mm512_maskz_loadu_epi32(valid, word + i);
        const __mmask16 reaches =
            _mm512_mask_cmp_ps_mask(valid, _mm512_abs_ps(value), _mm512_set1_ps(threshold), _CMP_GE_OQ);
        _mm512_storeu_ps(kept + count, _mm512_maskz_compress_ps(reaches, value));
        _mm512_storeu_si512(kept_word + count, _mm512_maskz_compress_epi32(reaches, loaded_word));
        count += __builtin_popcount(reaches);
    }
    return count;
}

std::int64_t keep_at_least(const double* x, const std::uint32_t* word, std::int64_t n, double threshold, double* kept,
                           std::uint32_t* kept_word) {
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < n; i += 8) {
        const auto valid = static_cast<__mmask8>(n - i < 8 ? (1u << (n - i)) - 1 : 0xffu);
        const __m512d value = _mm512_maskz_loadu_pd(valid, x + i);
        const __m256i loaded_word = _mm256_maskz_loadu_epi32(valid, word + i);
        const __mmask8 reaches =
            _mm512_mask_cmp_pd_mask(valid, _mm512_abs_pd(value), _mm512_set1_pd(threshold), _CMP_GE_OQ);
        _mm512_storeu_pd(kept + count, _mm512_maskz_compress_pd(reaches, value));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(kept_word + count),
                            _mm256_maskz_compress_epi32(reaches, loaded_word));
        count += __builtin_popcount(reaches);
    }
    return count;
}

#else

// Every element is written to the end of `kept`, and the next one overwrites it unless the magnitude of the first
// reaches the threshold: a branch would be mispredicted often.
template <class T>
std::int64_t keep_at_least(const T* x, const std::uint32_t* word, std::int64_t n, T threshold, T* kept,
                           std::uint32_t* kept_word) {
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < n; ++i) {
        const T value = x[i];
        kept[count] = value;
        kept_word[count] = word[i];
        count += (value < 0 ? -value : value) >= threshold;
    }
    return count;
}

#endif

}  // namespace
