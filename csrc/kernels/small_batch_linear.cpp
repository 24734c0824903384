// A linear layer for few rows (shiftbench/stages.h, SmallBatchLinear), as in a decoding step, where each row belongs to
// one sequence of a batch. The weights are read from memory once, which takes most of the time. The order in which an
// output element is summed does not depend on the number of rows, so a sequence's numbers do not depend on the batch
// that it is in. Compiled with fused multiply-adds, like stages.cpp.
#include "stages.h"
#include "transpose.h"
#include "vectors.h"

namespace {

using namespace shiftbench::cpu;
using i64 = std::int64_t;

// sum[s] = the sum of the lanes of sums[s], for N vectors. Takes as many vectors at a time as a vector has lanes,
// transposes them, and adds the transposed vectors, which takes fewer operations than adding the lanes of each.
template <int N, class T>
inline void sum_lanes_of_each(const Vector<T> (&sums)[N], T* sum) {
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

// Computes the outputs [a.first, a.last) of the rows [row, row + N), two outputs at a time. While a weight is used, the
// weight `prefetch_distance` elements after it is prefetched; 0 prefetches none. The CPU's own prefetcher does not
// reach far enough ahead: the CPU would wait for memory and compute by turns.
template <int N, class T>
void multiply_rows(const SmallBatchLinear<T>& a, i64 row, i64 prefetch_distance) {
    constexpr i64 lanes = lanes_of<T>;
    const i64 whole = a.depth / lanes * lanes;
    const T* x = a.x + row * a.depth;
    for (i64 o = a.first; o < a.last; o += 2) {
        const bool two = o + 1 < a.last;
        const T *left = a.weight + o * a.depth, *right = two ? left + a.depth : left;
        Vector<T> sums[2 * N] = {};
        for (i64 i = 0; i < whole; i += lanes) {
            const Vector<T> l = load(left + i), r = load(right + i);
            if (prefetch_distance) {
                __builtin_prefetch(left + i + prefetch_distance, 0, 2);
                __builtin_prefetch(right + i + prefetch_distance, 0, 2);
            }
#pragma GCC unroll 16
            for (int d = 0; d < N; ++d) {
                const Vector<T> own = load(x + d * a.depth + i);
                sums[d] += own * l;
                sums[N + d] += own * r;
            }
        }
        T sum[2 * N];
        sum_lanes_of_each(sums, sum);
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

// Takes a few outputs at a time, whose weights stay in the cache until all tiles of rows have been multiplied by them.
// The first tile of rows prefetches the weights of the next outputs.
template <class T>
void linear(const SmallBatchLinear<T>& a) {
    constexpr i64 cached_weights = i64{1} << 14;  // 64 kB of float, 128 kB of double
    const i64 fit = cached_weights / a.depth, together = fit < 2 ? 2 : fit / 2 * 2;
    for (i64 first = a.first; first < a.last; first += together) {
        SmallBatchLinear<T> part = a;
        part.first = first;
        part.last = first + together < a.last ? first + together : a.last;
        for_each_tile(a.rows, [&](i64 begin, i64 end) {
            const i64 prefetch_distance = begin == 0 ? together * a.depth : 0;
            with_constant_rows(
                end - begin, [&](auto rows) { multiply_rows<decltype(rows)::value>(part, begin, prefetch_distance); });
        });
    }
}

}  // namespace

namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS {

void small_batch_linear(const SmallBatchLinear<float>& a) { linear(a); }
void small_batch_linear(const SmallBatchLinear<double>& a) { linear(a); }

}  // namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS
