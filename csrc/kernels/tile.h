// The shape of a tile of scores in one instruction set. Included by its kernels only, which are compiled several times:
// nothing here or there may have a linkage that another instruction set's copy could replace.
#pragma once

#include <cstdint>

namespace {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64, tile_directions = 12;  // 24 sums, 2 words and a direction in 32 registers
#elif defined(__AVX2__)
constexpr int vector_bytes = 32, tile_directions = 6;  // 12 sums, 2 words and a direction in 16 registers
#elif defined(__aarch64__)
constexpr int vector_bytes = 16, tile_directions = 12;
#else
constexpr int vector_bytes = 16, tile_directions = 4;  // no fused multiply-add: a product needs a register too
#endif

template <class T>
struct VectorOf {
    typedef T type __attribute__((vector_size(vector_bytes)));
};
template <class T>
using Vector = typename VectorOf<T>::type;
template <class T>
constexpr int lanes_of = vector_bytes / int{sizeof(T)};
template <class T>
constexpr int tile_words = 2 * lanes_of<T>;

}  // namespace
