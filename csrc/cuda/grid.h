// Launching kernels, and what the threads of a warp or a block do together. Kernels use one-dimensional blocks of whole
// warps, and nothing of CUDA that emulated.h lacks.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "shiftbench/formulas.h"

#ifdef SHIFTBENCH_EMULATED
#include "emulated.h"
#else
#include <cuda_runtime.h>

namespace shiftbench::cuda {

using Stream = cudaStream_t;

inline void check(cudaError_t status, const char* call) {
    if (status != cudaSuccess)
        throw std::runtime_error(std::string("_C.cuda: ") + call + ": " + cudaGetErrorString(status));
}

// The device whose memory the arguments of the next launch are in.
inline void use_device(int device) { check(cudaSetDevice(device), "cudaSetDevice"); }

#ifdef __CUDACC__
template <class... P, class... A>
void launch(void (*kernel)(P...), std::int64_t blocks, unsigned threads, Stream stream, A... arguments) {
    if (blocks == 0) return;
    kernel<<<static_cast<unsigned>(blocks), threads, 0, stream>>>(arguments...);
    check(cudaGetLastError(), "kernel launch");
}
#endif

}  // namespace shiftbench::cuda
#endif

#if defined(__CUDACC__) || defined(SHIFTBENCH_EMULATED)

namespace shiftbench::cuda {

constexpr unsigned block_threads = 256, every_lane = 0xffffffffu;

// Blocks that have a thread for each of so many items.
inline std::int64_t blocks_for(std::int64_t items) { return (items + block_threads - 1) / block_threads; }

__device__ inline std::int64_t global_thread() { return std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }

// The sum over the block, for all its threads, in one order. `room`: shared, block_threads / 32 numbers. Every thread
// of the block must come here.
template <class T>
__device__ T block_sum(T value, T* room) {
    for (int half = 16; half > 0; half /= 2) value += __shfl_xor_sync(every_lane, value, half);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = value;
    __syncthreads();
    T sum = 0;
    for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) sum += room[warp];
    __syncthreads();
    return sum;
}

// The inner product of n numbers, in type A and in the order of the CPU's `dot`, by sixteen neighbouring threads, for
// all of them. Every thread of the warp must come here with the same n.
template <class A, class X, class Y>
__device__ A half_warp_dot(const X* x, const Y* y, std::int64_t n) {
    const std::int64_t lane = threadIdx.x % dot_lanes;
    A total = 0;
    for (std::int64_t begin = 0; begin < n; begin += dot_stretch) {
        const std::int64_t end = n - begin < dot_stretch ? n : begin + dot_stretch;
        A sum = 0;
        for (std::int64_t i = begin + lane; i < end; i += dot_lanes) sum += A(x[i]) * A(y[i]);
        for (int half = dot_lanes / 2; half > 0; half /= 2) sum += __shfl_xor_sync(every_lane, sum, half);
        total += sum;
    }
    return total;
}

// The same by one thread.
template <class A, class X, class Y>
__device__ A thread_dot(const X* x, const Y* y, std::int64_t n) {
    A total = 0;
    for (std::int64_t begin = 0; begin < n; begin += dot_stretch) {
        const std::int64_t end = n - begin < dot_stretch ? n : begin + dot_stretch;
        A sum[dot_lanes] = {};
        for (std::int64_t i = begin; i < end; ++i) sum[(i - begin) % dot_lanes] += A(x[i]) * A(y[i]);
        for (std::int64_t half = dot_lanes / 2; half > 0; half /= 2)
            for (std::int64_t lane = 0; lane < half; ++lane) sum[lane] += sum[lane + half];
        total += sum[0];
    }
    return total;
}

}  // namespace shiftbench::cuda

#endif
