// Derivatives through a gated feed-forward network's two projections at once. A position's slopes stand on either side
// of the weights, whatever the derivative: with W = diag(gate_slope) gate + diag(up_slope) up, a tangent of the inner
// activation is W x and a cotangent of the network's input is W^T g, one product where there were two. A tile of W is
// made when all the derivatives at its position are about to meet it, and is never in memory whole. Its gate's slopes
// stand apart, as W = diag(gate_slope) (gate + diag(up_slope / gate_slope) up): they scale the derivatives, which are
// few, and a number of W is one multiply-add where it would be two.
// Compiled with fused multiply-adds, like stages.cpp.
#include <limits>

#include "pack.h"
#include "stages.h"
#include "vectors.h"

namespace {

using namespace shiftbench::cpu;
using i64 = std::int64_t;

constexpr i64 most_depth = 640;             // summed over at a time: a tile of W so deep leaves room in the cache
constexpr i64 group_rows = 160;             // whose numbers stay in the cache while a tile's weights do
constexpr i64 most_weights = i64{1} << 18;  // numbers of both weights that are laid out for tiles at a time

// order: rows by position; first: where each position's begin there, all zero before. A counting sort.
void by_position(const i64* position, i64 rows, i64 positions, i64* order, i64* first) {
    for (i64 n = 0; n < rows; ++n) ++first[position[n] + 1];
    for (i64 t = 0; t < positions; ++t) first[t + 1] += first[t];
    for (i64 n = 0; n < rows; ++n) order[first[position[n]]++] = n;
    for (i64 t = positions; t > 0; --t) first[t] = first[t - 1];
    first[0] = 0;
}

// scale: the gate's slopes, none nearer to 0 than the square of the rounding error, where nothing of them reaches a
// sum. ratio: of the up-projection's slopes to these.
template <class T>
void divide(const T* gate_slope, const T* up_slope, i64 count, T* scale, T* ratio) {
    constexpr T least = std::numeric_limits<T>::epsilon() * std::numeric_limits<T>::epsilon();
    for (i64 i = 0; i < count; ++i) {
        const T own = gate_slope[i], size = own < 0 ? -own : own;
        scale[i] = size < least ? least : own;
        ratio[i] = up_slope[i] / scale[i];
    }
}

// Rows that lie apart, packed: to[i * rows + d] = x[order[d]][i], times scale[i] if there is one.
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

// What pack_words is for rows, for columns: they lie as a tile wants them.
template <class T>
void lay(const T* weight, i64 stride, i64 columns, i64 depth, T* to) {
    constexpr i64 width = tile_words<T>;
    for (i64 i = 0; i < depth; ++i)
        for (i64 c = 0; c < width; ++c) to[i * width + c] = c < columns ? weight[i * stride + c] : T(0);
}

// Rows of W for a tile's columns, but for its scale: gate + ratio up; ratio: by row for a cotangent, else by column.
template <bool cotangent, class T>
class Merged {
public:
    Merged(const T* gate, const T* up, const T* ratio, i64 columns) : gate_(gate), up_(up), ratio_(ratio) {
        if constexpr (!cotangent) {
            T own[2 * lanes_of<T>] = {};
            for (i64 c = 0; c < columns; ++c) own[c] = ratio[c];
            for (int w = 0; w < 2; ++w) by_column_[w] = load(own + w * lanes_of<T>);
        }
    }

    // Row i, its first or its second vector.
    Vector<T> at(i64 i, int w) const {
        const i64 place = (2 * i + w) * lanes_of<T>;
        if constexpr (cotangent) return load(gate_ + place) + load(up_ + place) * ratio_[i];
        return load(gate_ + place) + load(up_ + place) * by_column_[w];
    }

private:
    const T *gate_, *up_, *ratio_;
    Vector<T> by_column_[2] = {};
};

// The same, merged before.
template <class T>
struct Panel {
    const T* data;
    Vector<T> at(i64 i, int w) const { return load(data + (2 * i + w) * lanes_of<T>); }
};

// Where a tile's sums go: `columns` numbers of the rows that `order` names; add: to those that are there. All is then
// multiplied by scale[column] if there is one. In this order no compiler makes one operation of two in some tiles only.
template <class T>
struct Target {
    T* out;
    const i64* order;
    const T* scale;
    i64 stride, columns;
    bool add;

    void put(i64 row, const Vector<T> (&sum)[2]) const {
        constexpr i64 lanes = lanes_of<T>;
        T* to = out + order[row] * stride;
        if (columns == 2 * lanes) {
            for (int w = 0; w < 2; ++w, to += lanes) {
                const Vector<T> all = add ? load(to) + sum[w] : sum[w];
                store(to, scale ? all * load(scale + w * lanes) : all);
            }
        } else {
            T own[2 * lanes];
            store(own, sum[0]);
            store(own + lanes, sum[1]);
            for (i64 c = 0; c < columns; ++c) {
                const T all = add ? to[c] + own[c] : own[c];
                to[c] = scale ? all * scale[c] : all;
            }
        }
    }
};

// N packed rows times W; keep: W is left in the panel.
template <int N, bool keep, class T, class W>
void multiply(const T* x, const W& w, i64 depth, T* panel, i64 first, const Target<T>& to) {
    constexpr i64 lanes = lanes_of<T>;
    Vector<T> sum[N][2] = {};
    for (i64 i = 0; i < depth; ++i) {
        const Vector<T> left = w.at(i, 0), right = w.at(i, 1);
        if constexpr (keep) {
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
    for (int d = 0; d < N; ++d) to.put(first + d, sum[d]);
}

// All rows of a position times a tile of its W: the first of them merge it, the others find it in the panel.
template <bool cotangent, class T>
void multiply_position(i64 rows, const T* x, const Merged<cotangent, T>& w, i64 depth, T* panel, const Target<T>& to) {
    each_tile(rows, [&](i64 begin, i64 end) {
        with_rows(end - begin, [&](auto height) {
            constexpr int N = decltype(height)::value;
            const T* own = x + begin * depth;
            if (begin > 0)
                multiply<N, false>(own, Panel<T>{panel}, depth, panel, begin, to);
            else if (end < rows)
                multiply<N, true>(own, w, depth, panel, begin, to);
            else
                multiply<N, false>(own, w, depth, panel, begin, to);
        });
    });
}

template <bool cotangent, class T>
void gated(const GatedRows<T>& a) {
    constexpr i64 width = tile_words<T>;
    const i64 whole_depth = cotangent ? a.inner : a.width, all_columns = cotangent ? a.width : a.inner;
    const i64 parts = (whole_depth + most_depth - 1) / most_depth, deepest = (whole_depth + parts - 1) / parts;
    const i64 begin_tile = a.first / width, tiles = (a.last + width - 1) / width, count = tiles - begin_tile;
    static_assert(shiftbench::cpu::gated_columns % width == 0);
    const i64 fit = most_weights / (2 * deepest * width), together = fit < 1 ? 1 : fit < count ? fit : count;
    const Scratch<i64> orders(a.rows, false), firsts(a.positions + 1);
    const i64 slopes = cotangent ? deepest : together * width;  // of a position at a time: a part's, or its columns'
    const Scratch<T> packed(a.rows * deepest, false), weights(2 * together * deepest * width, false),
        panels(deepest * width, false), scales(a.positions * slopes, false), ratios(a.positions * slopes, false);
    i64 *const order = orders.get(), *const first = firsts.get();
    T *const x = packed.get(), *const panel = panels.get();
    by_position(a.position, a.rows, a.positions, order, first);
    const auto divide_from = [&](i64 begin, i64 count) {
        for (i64 t = 0; t < a.positions; ++t) {
            const i64 at = t * a.inner + begin, to = t * slopes;
            if (first[t] < first[t + 1])
                divide(a.gate_slope + at, a.up_slope + at, count, scales.get() + to, ratios.get() + to);
        }
    };
    const auto columns_of = [&](i64 tile) { return tile + 1 < tiles ? width : a.last - tile * width; };
    for (i64 part = 0; part < parts; ++part) {
        const i64 from = whole_depth * part / parts, depth = whole_depth * (part + 1) / parts - from;
        if constexpr (cotangent) divide_from(from, depth);
        for (i64 t = 0; t < a.positions; ++t)
            each_tile(first[t + 1] - first[t], [&](i64 begin, i64 end) {
                begin += first[t], end += first[t];
                const T* scale = cotangent ? scales.get() + t * slopes : nullptr;
                pack_rows(a.x + from, whole_depth, order + begin, end - begin, depth, scale, x + begin * depth);
            });
        for (i64 tile0 = begin_tile; tile0 < tiles; tile0 += together) {
            const i64 tile1 = tile0 + together < tiles ? tile0 + together : tiles;
            if constexpr (!cotangent) divide_from(tile0 * width, (tile1 - 1 - tile0) * width + columns_of(tile1 - 1));
            const auto gate_of = [&](i64 tile) { return weights.get() + 2 * (tile - tile0) * depth * width; };
            for (i64 tile = tile0; tile < tile1; ++tile) {
                const i64 column = tile * width, columns = columns_of(tile);
                T *gate = gate_of(tile), *up = gate + depth * width;
                if constexpr (cotangent) {
                    lay(a.gate + from * a.width + column, a.width, columns, depth, gate);
                    lay(a.up + from * a.width + column, a.width, columns, depth, up);
                } else {
                    pack_words(a.gate + column * a.width + from, a.width, columns, depth, gate);
                    pack_words(a.up + column * a.width + from, a.width, columns, depth, up);
                }
            }
            for (i64 t0 = 0, t1; t0 < a.positions; t0 = t1) {
                for (t1 = t0 + 1; t1 < a.positions && first[t1 + 1] - first[t0] <= group_rows;) ++t1;
                for (i64 tile = tile0; tile < tile1; ++tile)
                    for (i64 t = t0; t < t1; ++t) {
                        if (first[t] == first[t + 1]) continue;
                        const i64 column = tile * width, columns = columns_of(tile);
                        const i64 slope = t * slopes + (cotangent ? 0 : (tile - tile0) * width);
                        const bool whole = !cotangent && part + 1 == parts;
                        const T *gate = gate_of(tile), *scale = whole ? scales.get() + slope : nullptr;
                        const Merged<cotangent, T> w(gate, gate + depth * width, ratios.get() + slope, columns);
                        const Target<T> to{a.out + column, order + first[t], scale, all_columns, columns, part > 0};
                        multiply_position(first[t + 1] - first[t], x + first[t] * depth, w, depth, panel, to);
                    }
            }
        }
    }
}

}  // namespace

namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS {

void gated_rows(const GatedRows<float>& a) { a.cotangent ? gated<true>(a) : gated<false>(a); }
void gated_rows(const GatedRows<double>& a) { a.cotangent ? gated<true>(a) : gated<false>(a); }

}  // namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS
