#include "importance.h"

#include <cstring>

namespace shiftbench::cuda {

namespace {

__device__ inline unsigned long long bits_of(double x) {
    unsigned long long bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

__device__ inline double double_of(unsigned long long bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

__device__ inline void note(Noted noted, double importance, std::int64_t p, std::int64_t r, std::int64_t responses) {
    if (!finite(importance))
        atomicMin(noted.bad, static_cast<unsigned long long>(p * responses + r));
    else if (importance > 0)
        atomicMax(noted.largest + r, bits_of(importance));
}

template <class T>
__global__ void grad_x_input_kernel(Planes<const T> grad, Rows<const T> embedding, Rows<accumulator_t<T>> importance,
                                    Noted noted) {
    const std::int64_t tokens = grad.rows, items = grad.planes * tokens, mine = global_thread() / dot_lanes;
    const std::int64_t item = mine < items ? mine : items - 1;  // a whole warp is needed to the end
    const std::int64_t r = item / tokens, p = item % tokens;
    const auto sum = half_warp_dot<accumulator_t<T>>(grad[r][p], embedding[p], grad.cols);
    if (mine >= items || threadIdx.x % dot_lanes != 0) return;
    importance[p][r] = sum;
    if (noted.largest) note(noted, sum, p, r, grad.planes);
}

template <class T>
__global__ void note_largest_kernel(Rows<const T> importance, Noted noted) {
    const std::int64_t i = global_thread();
    if (i >= importance.rows * importance.cols) return;
    const std::int64_t p = i / importance.cols, r = i % importance.cols;
    note(noted, double(importance[p][r]), p, r, importance.cols);
}

template <class T>
__global__ void level_kernel(Rows<const T> importance, Rows<std::uint8_t> level, int levels, Noted noted) {
    const std::int64_t i = global_thread();
    if (i >= importance.rows * importance.cols || *noted.bad != nothing) return;
    const std::int64_t p = i / importance.cols, r = i % importance.cols;
    level[p][r] = level_of(double(importance[p][r]), double_of(noted.largest[r]), levels);
}

// A block a prompt token.
template <class T>
__global__ void ratio_kernel(Rows<const T> level, double* ratio, int cutoff, double p_norm, unsigned long long* bad) {
    __shared__ double room[block_threads / 32];
    const std::int64_t p = blockIdx.x;
    double l1 = 0, power = 0;
    for (std::int64_t r = threadIdx.x; r < level.cols; r += blockDim.x) {
        const double value = double(level[p][r]);
        if (!(value >= 0) || !finite(value)) {
            atomicMin(bad, static_cast<unsigned long long>(p * level.cols + r));
        } else if (value > cutoff) {
            l1 += value;
            power += pow(value, p_norm);
        }
    }
    l1 = block_sum(l1, room);
    power = block_sum(power, room);
    if (threadIdx.x == 0) ratio[p] = density_ratio(l1, power, p_norm);
}

// One block.
template <class Out>
__global__ void density_kernel(const double* ratio, std::int64_t tokens, Out* density) {
    __shared__ double most[block_threads];
    double largest = 0;
    for (std::int64_t p = threadIdx.x; p < tokens; p += blockDim.x) largest = ratio[p] > largest ? ratio[p] : largest;
    most[threadIdx.x] = largest;
    __syncthreads();
    for (unsigned i = 0; i < blockDim.x; ++i) largest = most[i] > largest ? most[i] : largest;
    for (std::int64_t p = threadIdx.x; p < tokens; p += blockDim.x)
        density[p] = static_cast<Out>(density_of(ratio[p], largest));
}

}  // namespace

template <class T>
void grad_x_input(Planes<const T> grad, Rows<const T> embedding, Rows<accumulator_t<T>> importance, Noted noted,
                  Stream stream) {
    const std::int64_t threads = grad.planes * grad.rows * dot_lanes;
    launch(grad_x_input_kernel<T>, blocks_for(threads), block_threads, stream, grad, embedding, importance, noted);
}

template <class T>
void note_largest(Rows<const T> importance, Noted noted, Stream stream) {
    const std::int64_t blocks = blocks_for(importance.rows * importance.cols);
    launch(note_largest_kernel<T>, blocks, block_threads, stream, importance, noted);
}

template <class T>
void importance_levels(Rows<const T> importance, Rows<std::uint8_t> level, int levels, Noted noted, Stream stream) {
    const std::int64_t blocks = blocks_for(importance.rows * importance.cols);
    launch(level_kernel<T>, blocks, block_threads, stream, importance, level, levels, noted);
}

template <class T, class Out>
void importance_density(Rows<const T> level, double* ratio, Out* density, int cutoff, double p_norm,
                        unsigned long long* bad, Stream stream) {
    launch(ratio_kernel<T>, level.rows, block_threads, stream, level, ratio, cutoff, p_norm, bad);
    launch(density_kernel<Out>, level.rows > 0 ? 1 : 0, block_threads, stream, static_cast<const double*>(ratio),
           level.rows, density);
}

#define SHIFTBENCH_FOR(T)                                                                                         \
    template void grad_x_input(Planes<const T>, Rows<const T>, Rows<accumulator_t<T>>, Noted, Stream);            \
    template void note_largest(Rows<const T>, Noted, Stream);                                                     \
    template void importance_levels(Rows<const T>, Rows<std::uint8_t>, int, Noted, Stream);                       \
    template void importance_density(Rows<const T>, double*, accumulator_t<T>*, int, double, unsigned long long*, \
                                     Stream);
SHIFTBENCH_FOR(float)
SHIFTBENCH_FOR(double)
SHIFTBENCH_FOR(bfloat16)
SHIFTBENCH_FOR(float16)
template void importance_density(Rows<const std::uint8_t>, double*, float*, int, double, unsigned long long*, Stream);
template void importance_density(Rows<const std::uint8_t>, double*, double*, int, double, unsigned long long*, Stream);

}  // namespace shiftbench::cuda
