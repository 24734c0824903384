// Products of a head's few columns: of queries and keys, which make a map, and of a map with what it weighs. As tile.h,
// for the kernels only.
#pragma once

#include <math.h>  // not <cmath>: its overloads are functions that would be linked once for all instruction sets

#include <cstdint>

#include "vectors.h"

namespace {

using i64 = std::int64_t;

constexpr i64 tall = tile_directions;  // rows of a tile of sums, all in registers
constexpr i64 block = 4 * tall;        // queries whose maps are made before they are used: what fits the nearest cache

// A matrix read as left(d, i) = data[d * row + i * depth].
template <class T>
struct Left {
    const T* data;
    i64 row, depth;
};

// sum[d][w] += sum over i < depth of left(d, i) * right[i * stride + w * lanes ..].
template <int N, int W, class T>
inline void multiply(Left<T> left, const T* right, i64 stride, i64 depth, Vector<T> (&sum)[N][W]) {
    for (i64 i = 0; i < depth; ++i) {
        Vector<T> r[W];
#pragma GCC unroll 2
        for (int w = 0; w < W; ++w) r[w] = load(right + i * stride + w * lanes_of<T>);
#pragma GCC unroll 16
        for (int d = 0; d < N; ++d) {
            const T x = left.data[d * left.row + i * left.depth];
#pragma GCC unroll 2
            for (int w = 0; w < W; ++w) sum[d][w] += x * r[w];
        }
    }
}

// f(rows, columns) for tiles that cover `rows` x `columns`: f(std::integral_constant rows, vectors, row, column), with
// vectors 2 or 1, and 0 for single columns.
template <class F>
inline void each_tall(i64 rows, const F& f) {
    i64 row = 0;
    for (; row + tall <= rows; row += tall) f(Count<int(tall)>{}, row);
    for (; row + 4 <= rows; row += 4) f(Count<4>{}, row);
    for (; row < rows; ++row) f(Count<1>{}, row);
}

template <class T, class F>
inline void each_wide(i64 columns, const F& f) {
    constexpr i64 lanes = lanes_of<T>;
    i64 column = 0;
    for (; column + 2 * lanes <= columns; column += 2 * lanes) f(Count<2>{}, column);
    for (; column + lanes <= columns; column += lanes) f(Count<1>{}, column);
    for (; column < columns; ++column) f(Count<0>{}, column);
}

inline i64 within(i64 x, i64 most) { return x < 0 ? 0 : x < most ? x : most; }

// What a tile leaves out of a product, as queries do not see the keys behind them: columns of the map that it makes
// (made); or of what it sums over, where it reads rows of a map (queries), or columns as rows (keys).
enum class Map { made, queries, keys };

// out[d, c] (+)= sum of products: left(rows x depth) @ right(depth x columns). before: how many more keys than itself
// the map's first query sees, those counted from the first key on.
template <bool add, Map map, class T>
void product(Left<T> left, i64 rows, const T* right, i64 stride, i64 depth, i64 columns, T* out, i64 out_stride,
             i64 before) {
    each_wide<T>(columns, [&](auto wide, i64 column) {
        each_tall(rows, [&](auto high, i64 row) {
            constexpr int N = decltype(high)::value, W = decltype(wide)::value;
            if (map == Map::made && column >= before + row + N) return;
            const i64 from = map == Map::keys ? within(row - before, depth) : 0;
            const i64 length = (map == Map::queries ? within(before + row + N, depth) : depth) - from;
            const Left<T> here{left.data + row * left.row + from * left.depth, left.row, left.depth};
            const T* there = right + from * stride + column;
            T* to = out + row * out_stride + column;
            if constexpr (W == 0) {
                for (int d = 0; d < N; ++d) {
                    T sum = add ? to[d * out_stride] : T(0);
                    for (i64 i = 0; i < length; ++i)
                        sum += here.data[d * here.row + i * here.depth] * there[i * stride];
                    to[d * out_stride] = sum;
                }
            } else {
                Vector<T> sum[N][W] = {};
                multiply<N, W, T>(here, there, stride, length, sum);
                for (int d = 0; d < N; ++d)
                    for (int w = 0; w < W; ++w) {
                        T* place = to + d * out_stride + w * lanes_of<T>;
                        store(place, add ? load(place) + sum[d][w] : sum[d][w]);
                    }
            }
        });
    });
}

// Rows as columns: to[e * stride + j] = from[j * row + e], for j < rows, e < width.
template <class T>
void turn(const T* from, i64 row, i64 rows, i64 width, T* to, i64 stride) {
    constexpr i64 side = 8;
    for (i64 j0 = 0; j0 < rows; j0 += side)
        for (i64 e0 = 0; e0 < width; e0 += side) {
            const i64 j1 = j0 + side < rows ? j0 + side : rows, e1 = e0 + side < width ? e0 + side : width;
            for (i64 e = e0; e < e1; ++e)
                for (i64 j = j0; j < j1; ++j) to[e * stride + j] = from[j * row + e];
        }
}

// Room for a row of a map of S keys, and for what a whole vector writes beyond them.
template <class T>
constexpr i64 padded(i64 count) {
    return (count + lanes_of<T> - 1) / lanes_of<T> * lanes_of<T>;
}

// Zeros for the first keys that a query does not see: a tile reads so many, for the sake of its last query.
template <class T>
inline void hide(T* map, i64 seen, i64 last) {
    for (i64 j = seen; j < last && j < seen + tall; ++j) map[j] = 0;
}

// A logit's cap.
inline float squashed(float x) { return tanhf(x); }
inline double squashed(double x) { return tanh(x); }

}  // namespace
