// Derivatives of a gated feed-forward network's activation through the gate's projection and the up-projection, merged
// into one product (shiftbench/stages.h, MergedProjectionDerivative; docs/mathematics.md, "How it is computed").
//
// The slopes belong to a position and are the same for all derivatives at it. So the two projections, each followed by
// its slopes, are one matrix per position:
//   W = diag(gate_slope) gate + diag(up_slope) up
// A tangent x of the network's input gives the tangent W x of the inner activation, and a cotangent x of the inner
// activation gives the cotangent W^T x of the input: one product instead of two. W is never in memory as a whole. A
// tile of it is merged in registers when it is multiplied by the first rows of its position, and is read from the cache
// (`panel`) for the position's other rows.
//
// The gate's slopes are taken out of the matrix: W = diag(gate_slope) (gate + diag(ratio) up) with ratio = up_slope /
// gate_slope. The gate's slopes then scale the rows of derivatives, which are few, before the product (cotangents) or
// after it (tangents). Merging an element of W takes one multiply-add instead of a multiplication and a multiply-add.
//
// Loops, from the outside in: parts of the depth that is summed over; batches of tiles of columns, whose weights are
// packed once; groups of positions, whose rows stay in the cache; tiles; positions. The weights are read from memory
// once, and the packed rows once per batch of tiles.
//
// Compiled with fused multiply-adds, like stages.cpp.
#include <limits>

#include "pack.h"
#include "stages.h"
#include "vectors.h"

namespace {

using namespace shiftbench::cpu;
using i64 = std::int64_t;

// Sizes that suit the caches of one core.
constexpr i64 max_depth = 640;             // of a part; a tile of W then takes at most 80 kB
constexpr i64 max_group_rows = 160;        // rows of derivatives in a group of positions, which stay in the cache
constexpr i64 max_weights = i64{1} << 18;  // elements of both projections in a batch: 1 MB of float, 2 MB of double

// Sorts the rows by their position (a counting sort). order: [rows], receives the indices of the rows, by ascending
// position. first: [positions + 1], receives the index in `order` where each position's rows begin, and the number of
// rows as its last element; it must be all zero before the call.
void sort_by_position(const i64* position, i64 rows, i64 positions, i64* order, i64* first) {
    for (i64 n = 0; n < rows; ++n) ++first[position[n] + 1];
    for (i64 t = 0; t < positions; ++t) first[t + 1] += first[t];
    for (i64 n = 0; n < rows; ++n) order[first[position[n]]++] = n;
    for (i64 t = positions; t > 0; --t) first[t] = first[t - 1];
    first[0] = 0;
}

// Splits `count` slopes of one position: scale = gate_slope, ratio = up_slope / scale. Where the magnitude of
// gate_slope is below eps^2, scale is eps^2, so that the ratio is finite. This changes an element of W by less than
// 2 eps^2 times the element of `gate`.
template <class T>
void split_slopes(const T* gate_slope, const T* up_slope, i64 count, T* scale, T* ratio) {
    constexpr T smallest = std::numeric_limits<T>::epsilon() * std::numeric_limits<T>::epsilon();
    for (i64 i = 0; i < count; ++i) {
        const T own = gate_slope[i], magnitude = own < 0 ? -own : own;
        scale[i] = magnitude < smallest ? smallest : own;
        ratio[i] = up_slope[i] / scale[i];
    }
}

// Packs a tile of rows of derivatives: to[i * rows + d] = x[order[d]][i], times scale[i] unless scale is null. order:
// the indices in x of the tile's rows. stride: the distance of two rows of x.
template <class T>
void pack_rows(const T* x, i64 stride, const i64* order, i64 rows, i64 depth, const T* scale, T* to) {
    constexpr i64 lanes = lanes_of<T>;
    for (i64 begin = 0; begin < depth; begin += lanes) {
        const i64 end = begin + lanes < depth ? begin + lanes : depth;
        for (i64 d = 0; d < rows; ++d) {
            const T* from = x + order[d] * stride;
            for (i64 i = begin; i < end; ++i) to[i * rows + d] = scale ? from[i] * scale[i] : from[i];
        }
    }
}

// Packs a tile of a weight's columns: to[i * tile_words + c] = weight[i][c], for `depth` rows i. Columns that are
// missing (from `columns` on) become 0. pack_words packs a tile of the weight's rows.
template <class T>
void pack_columns(const T* weight, i64 stride, i64 columns, i64 depth, T* to) {
    constexpr i64 width = tile_words<T>;
    for (i64 i = 0; i < depth; ++i)
        for (i64 c = 0; c < width; ++c) to[i * width + c] = c < columns ? weight[i * stride + c] : T(0);
}

// A tile of gate + diag(ratio) up (transposed for a tangent), merged when it is read. gate and up are the packed tiles
// of the two weights, which have `columns` real columns; the others are padding. The product sums over the rows of the
// tile, and each row is two vectors of columns wide. Each ratio belongs to an element of the inner activation. For a
// cotangent these elements are summed over, so each row has its ratio; for a tangent they are the columns of the
// result, so each column has its ratio.
template <bool cotangent, class T>
class MergedTile {
public:
    MergedTile(const T* gate, const T* up, const T* ratio, i64 columns) : gate_(gate), up_(up), ratio_(ratio) {
        if constexpr (!cotangent) {
            T own[2 * lanes_of<T>] = {};
            for (i64 c = 0; c < columns; ++c) own[c] = ratio[c];
            for (int w = 0; w < 2; ++w) ratio_by_column_[w] = load(own + w * lanes_of<T>);
        }
    }

    // The first (w = 0) or second (w = 1) vector of row i.
    Vector<T> at(i64 i, int w) const {
        const i64 element = (2 * i + w) * lanes_of<T>;
        if constexpr (cotangent) return load(gate_ + element) + load(up_ + element) * ratio_[i];
        return load(gate_ + element) + load(up_ + element) * ratio_by_column_[w];
    }

private:
    const T *gate_, *up_, *ratio_;
    Vector<T> ratio_by_column_[2] = {};
};

// A tile like MergedTile, after it has been merged and stored.
template <class T>
struct StoredTile {
    const T* data;
    Vector<T> at(i64 i, int w) const { return load(data + (2 * i + w) * lanes_of<T>); }
};

// Writes the sums of a tile to `columns` columns of the rows that `order` lists, in the matrix `out` with row stride
// `stride`. If `add`, the sums are added to what the matrix holds. The result is then multiplied by scale[column]
// unless scale is null. Adding first and multiplying last leaves the compiler nothing to fuse into a multiply-add,
// which it might do for complete tiles and not for others.
template <class T>
struct TileOutput {
    T* out;
    const i64* order;
    const T* scale;
    i64 stride, columns;
    bool add;

    void write(i64 row, const Vector<T> (&sum)[2]) const {
        constexpr i64 lanes = lanes_of<T>;
        T* to = out + order[row] * stride;
        if (columns == 2 * lanes) {
            for (int w = 0; w < 2; ++w, to += lanes) {
                const Vector<T> value = add ? load(to) + sum[w] : sum[w];
                store(to, scale ? value * load(scale + w * lanes) : value);
            }
        } else {
            T own[2 * lanes];
            store(own, sum[0]);
            store(own + lanes, sum[1]);
            for (i64 c = 0; c < columns; ++c) {
                const T value = add ? to[c] + own[c] : own[c];
                to[c] = scale ? value * scale[c] : value;
            }
        }
    }
};

// Multiplies N packed rows x by the tile w. TileOutput says to which rows of the output the sums go (those in
// `to.order` from `first` on), and whether they are added and scaled. Also stores the merged tile in `panel` if
// `store_tile`.
template <int N, bool store_tile, class T, class W>
void multiply_tile(const T* x, const W& w, i64 depth, T* panel, i64 first, const TileOutput<T>& to) {
    constexpr i64 lanes = lanes_of<T>;
    Vector<T> sum[N][2] = {};
    for (i64 i = 0; i < depth; ++i) {
        const Vector<T> left = w.at(i, 0), right = w.at(i, 1);
        if constexpr (store_tile) {
            store(panel + 2 * i * lanes, left);
            store(panel + (2 * i + 1) * lanes, right);
        }
#pragma GCC unroll 16
        for (int d = 0; d < N; ++d) {
            const T own = x[i * N + d];
            sum[d][0] += own * left;
            sum[d][1] += own * right;
        }
    }
    for (int d = 0; d < N; ++d) to.write(first + d, sum[d]);
}

// Multiplies all rows of a position, whose packed tiles follow one another in x, by one tile of the position's W. Row n
// goes to the output's row to.order[n]. panel: room for 2 * depth vectors. The first tile of rows merges the tile of W;
// if there are more tiles of rows, it also stores the merged tile in `panel`, and they read it there.
template <bool cotangent, class T>
void multiply_position(i64 rows, const T* x, const MergedTile<cotangent, T>& w, i64 depth, T* panel,
                       const TileOutput<T>& to) {
    for_each_tile(rows, [&](i64 begin, i64 end) {
        with_constant_rows(end - begin, [&](auto height) {
            constexpr int N = decltype(height)::value;
            const T* own = x + begin * depth;
            if (begin > 0)
                multiply_tile<N, false>(own, StoredTile<T>{panel}, depth, panel, begin, to);
            else if (end < rows)
                multiply_tile<N, true>(own, w, depth, panel, begin, to);
            else
                multiply_tile<N, false>(own, w, depth, panel, begin, to);
        });
    });
}

// The loops that the head of this file describes. The depth is the dimension that is summed over: the inner width for
// cotangents, the model's width for tangents. A tangent's scale belongs to the columns, so it multiplies the finished
// sums; a cotangent's scale belongs to the depth, so it multiplies the packed rows.
template <bool cotangent, class T>
void merged_derivative(const MergedProjectionDerivative<T>& a) {
    constexpr i64 width = tile_words<T>;
    const i64 whole_depth = cotangent ? a.inner_width : a.width, all_columns = cotangent ? a.width : a.inner_width;
    const i64 parts = (whole_depth + max_depth - 1) / max_depth, deepest = (whole_depth + parts - 1) / parts;
    const i64 begin_tile = a.first / width, tiles = (a.last + width - 1) / width, count = tiles - begin_tile;
    static_assert(shiftbench::cpu::columns_per_block % width == 0);
    const i64 fitting = max_weights / (2 * deepest * width), batch_tiles = fitting < 1       ? 1
                                                                           : fitting < count ? fitting
                                                                                             : count;
    const Scratch<i64> orders(a.rows, false), firsts(a.positions + 1);
    const i64 slopes = cotangent ? deepest : batch_tiles * width;  // how many slopes of a position are held at a time
    const Scratch<T> packed(a.rows * deepest, false), weights(2 * batch_tiles * deepest * width, false),
        panels(deepest * width, false), scales(a.positions * slopes, false), ratios(a.positions * slopes, false);
    i64 *const order = orders.get(), *const first = firsts.get();
    T *const x = packed.get(), *const panel = panels.get();
    sort_by_position(a.position, a.rows, a.positions, order, first);
    const auto split_slopes_from = [&](i64 begin, i64 count) {
        for (i64 t = 0; t < a.positions; ++t) {
            const i64 at = t * a.inner_width + begin, to = t * slopes;
            if (first[t] < first[t + 1])
                split_slopes(a.gate_slope + at, a.up_slope + at, count, scales.get() + to, ratios.get() + to);
        }
    };
    const auto columns_of = [&](i64 tile) { return tile + 1 < tiles ? width : a.last - tile * width; };
    for (i64 part = 0; part < parts; ++part) {
        const i64 from = whole_depth * part / parts, depth = whole_depth * (part + 1) / parts - from;
        if constexpr (cotangent) split_slopes_from(from, depth);
        for (i64 t = 0; t < a.positions; ++t)
            for_each_tile(first[t + 1] - first[t], [&](i64 begin, i64 end) {
                begin += first[t], end += first[t];
                const T* scale = cotangent ? scales.get() + t * slopes : nullptr;
                pack_rows(a.x + from, whole_depth, order + begin, end - begin, depth, scale, x + begin * depth);
            });
        for (i64 batch_begin = begin_tile; batch_begin < tiles; batch_begin += batch_tiles) {
            const i64 batch_end = batch_begin + batch_tiles < tiles ? batch_begin + batch_tiles : tiles;
            if constexpr (!cotangent)
                split_slopes_from(batch_begin * width,
                                  (batch_end - 1 - batch_begin) * width + columns_of(batch_end - 1));
            const auto gate_of = [&](i64 tile) { return weights.get() + 2 * (tile - batch_begin) * depth * width; };
            for (i64 tile = batch_begin; tile < batch_end; ++tile) {
                const i64 column = tile * width, columns = columns_of(tile);
                T *gate = gate_of(tile), *up = gate + depth * width;
                if constexpr (cotangent) {
                    pack_columns(a.gate + from * a.width + column, a.width, columns, depth, gate);
                    pack_columns(a.up + from * a.width + column, a.width, columns, depth, up);
                } else {
                    pack_words(a.gate + column * a.width + from, a.width, columns, depth, gate);
                    pack_words(a.up + column * a.width + from, a.width, columns, depth, up);
                }
            }
            for (i64 group_begin = 0, group_end; group_begin < a.positions; group_begin = group_end) {
                for (group_end = group_begin + 1;
                     group_end < a.positions && first[group_end + 1] - first[group_begin] <= max_group_rows;)
                    ++group_end;
                for (i64 tile = batch_begin; tile < batch_end; ++tile)
                    for (i64 t = group_begin; t < group_end; ++t) {
                        if (first[t] == first[t + 1]) continue;
                        const i64 column = tile * width, columns = columns_of(tile);
                        const i64 slope = t * slopes + (cotangent ? 0 : (tile - batch_begin) * width);
                        // The columns of a tangent are scaled when all parts have been added.
                        const bool complete = !cotangent && part + 1 == parts;
                        const T *gate = gate_of(tile), *scale = complete ? scales.get() + slope : nullptr;
                        const MergedTile<cotangent, T> w(gate, gate + depth * width, ratios.get() + slope, columns);
                        const TileOutput<T> to{a.out + column, order + first[t], scale, all_columns, columns, part > 0};
                        multiply_position(first[t + 1] - first[t], x + first[t] * depth, w, depth, panel, to);
                    }
            }
        }
    }
}

}  // namespace

namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS {

void merged_projection_derivative(const MergedProjectionDerivative<float>& a) {
    a.cotangent ? merged_derivative<true>(a) : merged_derivative<false>(a);
}
void merged_projection_derivative(const MergedProjectionDerivative<double>& a) {
    a.cotangent ? merged_derivative<true>(a) : merged_derivative<false>(a);
}

}  // namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS
