// The shape of a tile in the instruction set that this file is compiled for, and its vector types.
//
// Linkage. The files of csrc/kernels/ are compiled once for each instruction set. If two of the compilations defined
// the same inline function or template with external linkage, the linker would keep one of the two, and CPUs that lack
// its instructions would crash. So everything that the headers of this folder define is in an unnamed namespace, they
// are included by the files of this folder alone, and these files use no template or inline function of the standard
// library that could become a function of its own (std::vector, the overloads of <cmath>).
#pragma once

#include <cstdint>

namespace {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64, tile_directions = 12;  // 24 sums, 2 vectors of words, 1 direction: 27 of 32 registers
#elif defined(__AVX2__)
constexpr int vector_bytes = 32, tile_directions = 6;  // 12 sums, 2 vectors of words, 1 direction: 15 of 16 registers
#elif defined(__aarch64__)
constexpr int vector_bytes = 16, tile_directions = 12;  // as for AVX-512: 32 registers
#else
constexpr int vector_bytes = 16, tile_directions = 4;  // 16 registers; a product needs one before it is added
#endif

// A tile of scores has tile_directions rows (directions) and tile_words<T> columns (words), which are two vectors of
// lanes_of<T> elements. The sums of a tile stay in registers, so each element of a word that is loaded is multiplied by
// several directions.
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
