// Transposes a square of numbers in registers.
#pragma once

#include <type_traits>
#include <utility>

#include "tile.h"

namespace {

// The numbers of a and b by their places: those of a first, then those of b.
template <class T, int... place>
[[gnu::always_inline]] inline Vector<T> chosen(Vector<T> a, Vector<T> b, std::integer_sequence<int, place...>) {
#ifdef __clang__
    return __builtin_shufflevector(a, b, place...);
#else
    typedef std::conditional_t<sizeof(T) == 4, int, long long> Place __attribute__((vector_size(vector_bytes)));
    return __builtin_shuffle(a, b, Place{place...});
#endif
}

// Swaps the blocks off the diagonal, of `half` numbers, in every square of two by two blocks; then does so within them.
template <int half, class T, int... i>
[[gnu::always_inline]] inline void transpose_blocks(Vector<T>* row, std::integer_sequence<int, i...>) {
    constexpr int lanes = lanes_of<T>;
#pragma GCC unroll 16
    for (int r = 0; r < lanes; ++r) {
        if (r & half) continue;
        const Vector<T> upper = row[r], lower = row[r + half];
        row[r] = chosen<T>(upper, lower, std::integer_sequence<int, (i & half ? lanes + i - half : i)...>());
        row[r + half] = chosen<T>(upper, lower, std::integer_sequence<int, (i & half ? lanes + i : i + half)...>());
    }
}

template <int half, class T>
[[gnu::always_inline]] inline void transpose(Vector<T>* row) {
    transpose_blocks<half, T>(row, std::make_integer_sequence<int, lanes_of<T>>());
    if constexpr (half > 1) transpose<half / 2, T>(row);
}

}  // namespace
