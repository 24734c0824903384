// Products of a few rows with weights that are read once, from memory: what a step of decoding is made of. Each number
// is summed in one order, whatever rows stand beside its own. Compiled with fused multiply-adds, like stages.cpp.
#include "stages.h"
#include "transpose.h"
#include "vectors.h"

namespace {

using namespace shiftbench::cpu;
using i64 = std::int64_t;

// sum[s]: of sums[s]'s lanes. As many vectors at a time as they have lanes become columns first.
template <int N, class T>
inline void add_lanes(const Vector<T> (&sums)[N], T* sum) {
    constexpr int lanes = lanes_of<T>;
#pragma GCC unroll 16
    for (int begin = 0; begin < N; begin += lanes) {
        Vector<T> row[lanes];
#pragma GCC unroll 16
        for (int s = 0; s < lanes; ++s) row[s] = begin + s < N ? sums[begin + s < N ? begin + s : 0] : Vector<T>{};
        transpose<lanes / 2, T>(row);
        Vector<T> all = row[0];
#pragma GCC unroll 16
        for (int s = 1; s < lanes; ++s) all += row[s];
        T own[lanes];
        store(own, all);
        for (int s = 0; s < lanes && begin + s < N; ++s) sum[begin + s] = own[s];
    }
}

// N rows from `row` on. ahead: how far behind a weight stands the one to be fetched meanwhile; 0: none. The processor
// itself looks ahead too little, and would wait for memory and compute by turns.
template <int N, class T>
void multiply(const ThinRows<T>& a, i64 row, i64 ahead) {
    constexpr i64 lanes = lanes_of<T>;
    const i64 whole = a.depth / lanes * lanes;
    const T* x = a.x + row * a.depth;
    for (i64 o = a.first; o < a.last; o += 2) {
        const bool two = o + 1 < a.last;
        const T *left = a.weight + o * a.depth, *right = two ? left + a.depth : left;
        Vector<T> sums[2 * N] = {};
        for (i64 i = 0; i < whole; i += lanes) {
            const Vector<T> l = load(left + i), r = load(right + i);
            if (ahead) {
                __builtin_prefetch(left + i + ahead, 0, 2);
                __builtin_prefetch(right + i + ahead, 0, 2);
            }
#pragma GCC unroll 16
            for (int d = 0; d < N; ++d) {
                const Vector<T> own = load(x + d * a.depth + i);
                sums[d] += own * l;
                sums[N + d] += own * r;
            }
        }
        T sum[2 * N];
        add_lanes(sums, sum);
        for (int d = 0; d < N; ++d) {
            for (i64 i = whole; i < a.depth; ++i) {
                sum[d] += x[d * a.depth + i] * left[i];
                sum[N + d] += x[d * a.depth + i] * right[i];
            }
            T* to = a.out + (row + d) * a.outputs + o;
            to[0] = sum[d];
            if (two) to[1] = sum[N + d];
        }
    }
}

// A few outputs at a time: their weights stay near for the other tiles of rows.
template <class T>
void thin(const ThinRows<T>& a) {
    const i64 fit = (i64{1} << 14) / a.depth, together = fit < 2 ? 2 : fit / 2 * 2;
    for (i64 first = a.first; first < a.last; first += together) {
        ThinRows<T> part = a;
        part.first = first;
        part.last = first + together < a.last ? first + together : a.last;
        each_tile(a.rows, [&](i64 begin, i64 end) {
            const i64 ahead = begin == 0 ? together * a.depth : 0;
            with_rows(end - begin, [&](auto rows) { multiply<decltype(rows)::value>(part, begin, ahead); });
        });
    }
}

}  // namespace

namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS {

void thin_rows(const ThinRows<float>& a) { thin(a); }
void thin_rows(const ThinRows<double>& a) { thin(a); }

}  // namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS
