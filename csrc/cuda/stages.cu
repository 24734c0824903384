#include "stages.h"

namespace shiftbench::cuda {

namespace {

using cpu::ActivationDerivative;
using cpu::NormDerivative;
using cpu::RotaryDerivative;

// One block per group of a row. Two passes over the group: the sums, then the output.
template <class T>
__global__ void norm_kernel(NormDerivative<T> a) {
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
        const T y = norm_derivative_element(x, hat[i], mean, along, a.rho[kept]);
        out[i] = a.cotangent ? y : y * a.gain[i];
    }
}

// One thread per pair of elements, one pass.
template <class T>
__global__ void rotate_kernel(RotaryDerivative<T> a) {
    const std::int64_t half = a.width / 2, item = global_thread();
    if (item >= a.rows * a.heads * half) return;
    const std::int64_t i = item % half, head = item / half, at = a.position[head / a.heads] * a.width + i;
    T* x = a.x + head * a.width + i;
    rotate_pair(a.cosine[at], a.inverse ? -a.sine[at] : a.sine[at], x[0], x[half]);
}

// One thread per element, one pass.
template <class T>
__global__ void gate_kernel(ActivationDerivative<T> a) {
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
void norm_derivative(const NormDerivative<T>& rows, Stream stream) {
    launch(norm_kernel<T>, rows.rows * rows.groups, block_threads, stream, rows);
}

template <class T>
void rotary_derivative(const RotaryDerivative<T>& rows, Stream stream) {
    launch(rotate_kernel<T>, blocks_for(rows.rows * rows.heads * (rows.width / 2)), block_threads, stream, rows);
}

template <class T>
void activation_derivative(const ActivationDerivative<T>& rows, Stream stream) {
    launch(gate_kernel<T>, blocks_for(rows.rows * rows.width), block_threads, stream, rows);
}

#define SHIFTBENCH_FOR(T)                                                \
    template void norm_derivative(const NormDerivative<T>&, Stream);     \
    template void rotary_derivative(const RotaryDerivative<T>&, Stream); \
    template void activation_derivative(const ActivationDerivative<T>&, Stream);
SHIFTBENCH_FOR(float)
SHIFTBENCH_FOR(double)

}  // namespace shiftbench::cuda
