#include "stages.h"

namespace shiftbench::cuda {

namespace {

using cpu::GateRows;
using cpu::NormRows;
using cpu::RotateRows;

// One block per group of a row. Two passes over the group: the sums, then the output.
template <class T>
__global__ void norm_kernel(NormRows<T> a) {
    __shared__ T scratch[block_threads / 32];
    const std::int64_t item = blockIdx.x, n = item / a.groups, g = item % a.groups;
    const std::int64_t kept = a.position[n] * a.groups + g;
    const T *derivative = a.derivative + item * a.width, *hat = a.hat + kept * a.width;
    T* out = a.out + item * a.width;
    T along = 0, mean = 0;
    for (std::int64_t i = threadIdx.x; i < a.width; i += blockDim.x) {
        const T x = a.cotangent ? derivative[i] * a.gain[i] : derivative[i];
        along += x * hat[i];
        mean += x;
    }
    along = block_sum(along, scratch) / T(a.width);
    mean = a.centred ? block_sum(mean, scratch) / T(a.width) : T(0);
    for (std::int64_t i = threadIdx.x; i < a.width; i += blockDim.x) {
        const T x = a.cotangent ? derivative[i] * a.gain[i] : derivative[i];
        const T y = norm_derivative(x, hat[i], mean, along, a.rho[kept]);
        out[i] = a.cotangent ? y : y * a.gain[i];
    }
}

// One thread per pair of elements, one pass.
template <class T>
__global__ void rotate_kernel(RotateRows<T> a) {
    const std::int64_t half = a.width / 2, item = global_thread();
    if (item >= a.rows * a.heads * half) return;
    const std::int64_t i = item % half, head = item / half, at = a.position[head / a.heads] * a.width + i;
    T* x = a.x + head * a.width + i;
    rotate_pair(a.cosine[at], a.inverse ? -a.sine[at] : a.sine[at], x[0], x[half]);
}

// One thread per element, one pass.
template <class T>
__global__ void gate_kernel(GateRows<T> a) {
    const std::int64_t item = global_thread();
    if (item >= a.rows * a.width) return;
    const std::int64_t kept = a.position[item / a.width] * a.width + item % a.width;
    const T up = a.up[item];
    if (!a.gate) {
        a.up[item] = up * a.up_slope[kept];
    } else if (a.cotangent) {
        a.gate[item] = up * a.gate_slope[kept];
        a.up[item] = up * a.up_slope[kept];
    } else {
        a.up[item] = up * a.up_slope[kept] + a.gate[item] * a.gate_slope[kept];
    }
}

}  // namespace

template <class T>
void norm_rows(const NormRows<T>& rows, Stream stream) {
    launch(norm_kernel<T>, rows.rows * rows.groups, block_threads, stream, rows);
}

template <class T>
void rotate_rows(const RotateRows<T>& rows, Stream stream) {
    launch(rotate_kernel<T>, blocks_for(rows.rows * rows.heads * (rows.width / 2)), block_threads, stream, rows);
}

template <class T>
void gate_rows(const GateRows<T>& rows, Stream stream) {
    launch(gate_kernel<T>, blocks_for(rows.rows * rows.width), block_threads, stream, rows);
}

#define SHIFTBENCH_FOR(T)                                    \
    template void norm_rows(const NormRows<T>&, Stream);     \
    template void rotate_rows(const RotateRows<T>&, Stream); \
    template void gate_rows(const GateRows<T>&, Stream);
SHIFTBENCH_FOR(float)
SHIFTBENCH_FOR(double)

}  // namespace shiftbench::cuda
