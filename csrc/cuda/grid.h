// Launching kernels, sums over a block, and inner products. Kernels use one-dimensional grids and blocks, and blocks of
// whole warps. Of CUDA they use only what emulated.h emulates.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "shiftbench/formulas.h"

namespace shiftbench::cuda {

// `blocks` as the size of a grid. Throws std::runtime_error where a grid of CUDA cannot have this size.
inline unsigned grid_size(std::int64_t blocks) {
    constexpr std::int64_t most = 0x7fffffff;
    if (blocks < 0 || blocks > most)
        throw std::runtime_error("_C.cuda: kernel launch: " + std::to_string(blocks) + " blocks; a grid has 0 to " +
                                 std::to_string(most));
    return static_cast<unsigned>(blocks);
}

}  // namespace shiftbench::cuda

#ifdef SHIFTBENCH_EMULATED
#include "emulated.h"
#else
#include <cuda_runtime.h>

namespace shiftbench::cuda {

using Stream = cudaStream_t;

// Throws std::runtime_error, whose message names the call, unless the status is success.
inline void check(cudaError_t status, const char* call) {
    if (status != cudaSuccess)
        throw std::runtime_error(std::string("_C.cuda: ") + call + ": " + cudaGetErrorString(status));
}

// Makes the GPU of this index the device of the calling thread's following launches. Throws as `check` does.
inline void use_device(int device) { check(cudaSetDevice(device), "cudaSetDevice"); }

#ifdef __CUDACC__
// Starts `blocks` blocks of `threads` threads on the stream; does not wait for them. If `blocks` is 0 it does nothing;
// CUDA would refuse such a launch. Throws as `check` and `grid_size` do.
template <class... P, class... A>
void launch(void (*kernel)(P...), std::int64_t blocks, unsigned threads, Stream stream, A... arguments) {
    if (blocks == 0) return;
    kernel<<<grid_size(blocks), threads, 0, stream>>>(arguments...);
    check(cudaGetLastError(), "kernel launch");
}
#endif

}  // namespace shiftbench::cuda
#endif

#if defined(__CUDACC__) || defined(SHIFTBENCH_EMULATED)

namespace shiftbench::cuda {

// Eight warps per block: enough to hide the latency of memory, and few enough for several blocks to share a
// multiprocessor.
constexpr unsigned block_threads = 256;
constexpr unsigned all_lanes = 0xffffffffu;  // the mask of a whole warp

// The smallest number of blocks of block_threads threads that together have a thread for each item.
inline std::int64_t blocks_for(std::int64_t items) { return (items + block_threads - 1) / block_threads; }

// The index of the running thread among all threads of the launch.
__device__ inline std::int64_t global_thread() { return std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }

// Returns to every thread of the block the sum of their values, added in one fixed order. scratch: shared memory for
// one number of each warp, block_threads / 32 in all; it may be used again at once. All threads of the block must call
// this.
template <class T>
__device__ T block_sum(T value, T* scratch) {
    for (int half = 16; half > 0; half /= 2) value += __shfl_xor_sync(all_lanes, value, half);
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
    __syncthreads();
    T sum = 0;
    for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) sum += scratch[warp];
    __syncthreads();
    return sum;
}

// The inner product of x and y, n elements each, summed in type A and in the order of the CPU's `dot` (formulas.h). The
// sixteen threads of half a warp compute it together, and each of them gets the result; the two halves may have
// different x and y. All threads of the warp must call this, with the same n.
template <class A, class X, class Y>
__device__ A half_warp_dot(const X* x, const Y* y, std::int64_t n) {
    const std::int64_t lane = threadIdx.x % dot_lanes;
    A total = 0;
    for (std::int64_t begin = 0; begin < n; begin += dot_stretch) {
        const std::int64_t end = n - begin < dot_stretch ? n : begin + dot_stretch;
        A sum = 0;
        for (std::int64_t i = begin + lane; i < end; i += dot_lanes) sum += A(x[i]) * A(y[i]);
        for (int half = dot_lanes / 2; half > 0; half /= 2) sum += __shfl_xor_sync(all_lanes, sum, half);
        total += sum;
    }
    return total;
}

// The same inner product as that of half_warp_dot, to the last bit, computed by one thread alone.
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
