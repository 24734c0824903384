// Packs rows for a tile (shiftbench/kernels.h, Pack): element 0 of all rows, then element 1 of all rows, and so on. For
// the files of csrc/kernels/ only (tile.h, "Linkage").
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "tile.h"
#include "transpose.h"

namespace {

// packed[i * lanes + row] = element i of that row, for a tile of `lanes` rows; 0 for the rows that are missing (rows <=
// row < lanes). Sixteen columns are taken at a time, so that the memory that they are written to, at most 2 kB, stays
// in the innermost cache.
template <class T, class E>
void pack(const E* first_row, std::int64_t stride, std::int64_t rows, std::int64_t width, std::int64_t lanes,
          T* packed) {
    constexpr std::int64_t step = 16;
    for (std::int64_t begin = 0; begin < width; begin += step) {
        const std::int64_t columns = width - begin < step ? width - begin : step;
        for (std::int64_t row = 0; row < lanes; ++row) {
            T* out = packed + begin * lanes + row;
            const E* in = first_row + row * stride + begin;
            for (std::int64_t i = 0; i < columns; ++i) out[i * lanes] = row < rows ? T(in[i]) : T(0);
        }
    }
}

// Packs a tile of words, or of rows of a weight, with the result of pack(..., tile_words<T>, packed). It is faster for
// complete tiles: squares of lanes x lanes elements are transposed in registers and then stored vector by vector, where
// `pack` stores every element by itself. Every word is packed once in a pass, which takes a visible share of the time
// when there are few directions to score the words against.
template <class T, class E>
void pack_words(const E* first_row, std::int64_t stride, std::int64_t rows, std::int64_t width, T* packed) {
    constexpr int lanes = lanes_of<T>;
    const std::int64_t whole = rows == tile_words<T> ? width / lanes * lanes : 0;
    for (std::int64_t begin = 0; begin < whole; begin += lanes)
        for (int half = 0; half < 2; ++half) {
            Vector<T> row[lanes];
#pragma GCC unroll 16
            for (int i = 0; i < lanes; ++i) {
                const E* in = first_row + (half * lanes + i) * stride + begin;
                if constexpr (std::is_same_v<T, E>) {
                    std::memcpy(&row[i], in, sizeof row[i]);
                } else {
                    T wide[lanes];
                    for (int j = 0; j < lanes; ++j) wide[j] = T(in[j]);
                    std::memcpy(&row[i], wide, sizeof wide);
                }
            }
            transpose<lanes / 2, T>(row);
#pragma GCC unroll 16
            for (int j = 0; j < lanes; ++j)
                std::memcpy(packed + (begin + j) * tile_words<T> + half * lanes, &row[j], sizeof row[j]);
        }
    pack(first_row + whole, stride, rows, width - whole, tile_words<T>, packed + whole * tile_words<T>);
}

}  // namespace
