// The matrix products of causal attention for one head. Each has the head's attention map as one operand or as its
// result; the other matrices (queries, keys, values, the heads' outputs, and derivatives of these) are as narrow as a
// head. A map is a matrix [queries, keys]: logits, probabilities, or derivatives of either. For the files of
// csrc/kernels/ only (tile.h, "Linkage").
#pragma once

#include <math.h>  // not <cmath>, whose overloads are inline functions (tile.h, "Linkage")

#include <cstdint>

#include "vectors.h"

namespace {

using i64 = std::int64_t;

// A tile of a product has at most this many rows and two vectors of columns; its sums stay in registers (tile.h).
constexpr i64 tile_rows = tile_directions;
// The derivatives compute the map's rows of this many queries together, and then use them: four tiles, few enough for
// the rows to be still in a cache when they are used.
constexpr i64 query_block = 4 * tile_rows;

// The left operand of a product: element (d, i) is data[d * row_stride + i * depth_stride].
template <class T>
struct LeftOperand {
    const T* data;
    i64 row_stride, depth_stride;
};

// One tile of N rows and W vectors of columns, of `lanes` columns each:
// sum[d][w] += sum over i < depth of left(d, i) * right[i * stride + w * lanes .. + lanes].
template <int N, int W, class T>
inline void accumulate_tile(LeftOperand<T> left, const T* right, i64 stride, i64 depth, Vector<T> (&sum)[N][W]) {
    for (i64 i = 0; i < depth; ++i) {
        Vector<T> r[W];
#pragma GCC unroll 2
        for (int w = 0; w < W; ++w) r[w] = load(right + i * stride + w * lanes_of<T>);
#pragma GCC unroll 16
        for (int d = 0; d < N; ++d) {
            const T x = left.data[d * left.row_stride + i * left.depth_stride];
#pragma GCC unroll 2
            for (int w = 0; w < W; ++w) sum[d][w] += x * r[w];
        }
    }
}

// Calls f(Constant<height>{}, first row) for tiles that cover the rows: tiles of tile_rows rows, then of 4, then single
// rows.
template <class F>
inline void for_each_tile_of_rows(i64 rows, const F& f) {
    i64 row = 0;
    for (; row + tile_rows <= rows; row += tile_rows) f(Constant<int(tile_rows)>{}, row);
    for (; row + 4 <= rows; row += 4) f(Constant<4>{}, row);
    for (; row < rows; ++row) f(Constant<1>{}, row);
}

// Calls f(Constant<vectors>{}, first column) for tiles that cover the columns: tiles of two vectors, then of one, then
// single columns, for which `vectors` is 0.
template <class T, class F>
inline void for_each_tile_of_columns(i64 columns, const F& f) {
    constexpr i64 lanes = lanes_of<T>;
    i64 column = 0;
    for (; column + 2 * lanes <= columns; column += 2 * lanes) f(Constant<2>{}, column);
    for (; column + lanes <= columns; column += lanes) f(Constant<1>{}, column);
    for (; column < columns; ++column) f(Constant<0>{}, column);
}

// x if it lies in [0, most], else the nearer end of that range.
inline i64 clamp(i64 x, i64 most) { return x < 0 ? 0 : x < most ? x : most; }

// Which of the three matrices of a product is the attention map. The map is causal: its elements for keys after the
// query's own position count as 0, and most of them are neither computed nor read:
//   output           map = queries @ keys^T: tiles whose keys all come after their last query are skipped.
//   left             mixed = map @ values: a tile sums over the keys up to its last query's position only.
//   left_transposed  dK = map^T @ queries: a tile sums over the queries from its first key's position on only.
// A tile has several queries and keys, so some of these elements are computed or read all the same. Before a map is
// read, the caller of `product` sets those elements to 0 (mask_future_keys).
enum class CausalMap { output, left, left_transposed };

// out = left @ right, or out += left @ right if `add`, where one of the matrices is a causal map.
// left: [rows, depth]; right: [depth, columns], row stride `stride`; out: [rows, columns], row stride `out_stride`.
// before = (position of the map's first query) - (position of the map's first key); query i of the map attends to the
// keys [0, before + i] of the map. Where the map is the output, a tile may also hold keys that come after a query's
// position. Their elements are computed, but they are meaningless until the caller masks them (mask_future_keys);
// skipped tiles are not written. The terms of each element are added in ascending order of their index along `depth`.
template <bool add, CausalMap map, class T>
void product(LeftOperand<T> left, i64 rows, const T* right, i64 stride, i64 depth, i64 columns, T* out, i64 out_stride,
             i64 before) {
    for_each_tile_of_columns<T>(columns, [&](auto wide, i64 column) {
        for_each_tile_of_rows(rows, [&](auto high, i64 row) {
            constexpr int N = decltype(high)::value, W = decltype(wide)::value;
            if (map == CausalMap::output && column >= before + row + N) return;
            const i64 from = map == CausalMap::left_transposed ? clamp(row - before, depth) : 0;
            const i64 length = (map == CausalMap::left ? clamp(before + row + N, depth) : depth) - from;
            const LeftOperand<T> here{left.data + row * left.row_stride + from * left.depth_stride, left.row_stride,
                                      left.depth_stride};
            const T* there = right + from * stride + column;
            T* to = out + row * out_stride + column;
            if constexpr (W == 0) {
                for (int d = 0; d < N; ++d) {
                    T sum = add ? to[d * out_stride] : T(0);
                    for (i64 i = 0; i < length; ++i)
                        sum += here.data[d * here.row_stride + i * here.depth_stride] * there[i * stride];
                    to[d * out_stride] = sum;
                }
            } else {
                Vector<T> sum[N][W] = {};
                accumulate_tile<N, W, T>(here, there, stride, length, sum);
                for (int d = 0; d < N; ++d)
                    for (int w = 0; w < W; ++w) {
                        T* target = to + d * out_stride + w * lanes_of<T>;
                        store(target, add ? load(target) + sum[d][w] : sum[d][w]);
                    }
            }
        });
    });
}

// Transposes a matrix: to[e * stride + j] = from[j * from_stride + e], for j < rows and e < width. Takes squares of
// 8 x 8 elements, so that a cache line is still in the innermost cache when its next element is read or written.
template <class T>
void transpose_matrix(const T* from, i64 from_stride, i64 rows, i64 width, T* to, i64 stride) {
    constexpr i64 side = 8;
    for (i64 j0 = 0; j0 < rows; j0 += side)
        for (i64 e0 = 0; e0 < width; e0 += side) {
            const i64 j1 = j0 + side < rows ? j0 + side : rows, e1 = e0 + side < width ? e0 + side : width;
            for (i64 e = e0; e < e1; ++e)
                for (i64 j = j0; j < j1; ++j) to[e * stride + j] = from[j * from_stride + e];
        }
}

// The number of elements, `count`, rounded up to whole vectors. Rows of maps have room for one vector more than that,
// because loops also store a whole vector where a row ends.
template <class T>
constexpr i64 whole_vectors(i64 count) {
    return (count + lanes_of<T> - 1) / lanes_of<T> * lanes_of<T>;
}

// Sets elements of a query's row of the map to 0: those of the keys [seen, last), which come after the query's
// position, but at most the first tile_rows of them. A tile sums over the keys up to its last query's position, so for
// each of its other queries it also reads elements of later keys, fewer than tile_rows.
template <class T>
inline void mask_future_keys(T* map, i64 seen, i64 last) {
    for (i64 j = seen; j < last && j < seen + tile_rows; ++j) map[j] = 0;
}

// tanh, with which logits are capped.
inline float hyperbolic_tangent(float x) { return tanhf(x); }
inline double hyperbolic_tangent(double x) { return tanh(x); }

}  // namespace
