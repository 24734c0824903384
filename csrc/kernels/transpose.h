// Transposes a square of elements in registers. For the files of csrc/kernels/ only (tile.h, "Linkage").
#pragma once

#include <type_traits>
#include <utility>

#include "tile.h"

namespace {

// A vector whose elements come from a and b. `place` says where each comes from: i for element i of a, lanes + i for
// element i of b.
template <class T, int... place>
[[gnu::always_inline]] inline Vector<T> select(Vector<T> a, Vector<T> b, std::integer_sequence<int, place...>) {
#ifdef __clang__
    return __builtin_shufflevector(a, b, place...);
#else
    typedef std::conditional_t<sizeof(T) == 4, int, long long> Place __attribute__((vector_size(vector_bytes)));
    return __builtin_shuffle(a, b, Place{place...});
#endif
}

// Divides the square, whose rows are row[0 .. lanes - 1], into squares of 2 half x 2 half elements, and swaps the two
// off-diagonal blocks, of half x half elements, of each of them.
template <int half, class T, int... i>
[[gnu::always_inline]] inline void transpose_blocks(Vector<T>* row, std::integer_sequence<int, i...>) {
    constexpr int lanes = lanes_of<T>;
#pragma GCC unroll 16
    for (int r = 0; r < lanes; ++r) {
        if (r & half) continue;
        const Vector<T> upper = row[r], lower = row[r + half];
        row[r] = select<T>(upper, lower, std::integer_sequence<int, (i & half ? lanes + i - half : i)...>());
        row[r + half] = select<T>(upper, lower, std::integer_sequence<int, (i & half ? lanes + i : i + half)...>());
    }
}

// Transposes a square of lanes x lanes elements in place; row[i] is its row i. Callers pass half = lanes / 2. Swaps the
// off-diagonal blocks of the whole square, then of each quarter, and so on down to single elements.
template <int half, class T>
[[gnu::always_inline]] inline void transpose(Vector<T>* row) {
    transpose_blocks<half, T>(row, std::make_integer_sequence<int, lanes_of<T>>());
    if constexpr (half > 1) transpose<half / 2, T>(row);
}

}  // namespace
