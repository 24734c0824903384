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

// Records the importance of prompt token p for response token r: if it is not finite, its flat index if that is the
// lowest so far; else its value if that is positive and the largest of r so far. responses: the number of response
// tokens.
__device__ inline void record_one(ImportanceRecord record, double importance, std::int64_t p, std::int64_t r,
                                  std::int64_t responses) {
    if (!finite(importance))
        atomicMin(record.bad, static_cast<unsigned long long>(p * responses + r));
    else if (importance > 0)
        atomicMax(record.largest + r, bits_of(importance));
}

// Sixteen threads per importance, one for each running sum of `dot`.
template <class T>
__global__ void grad_x_input_kernel(Planes<const T> grad, Rows<const T> embedding, Rows<accumulator_t<T>> importance,
                                    ImportanceRecord record) {
    const std::int64_t tokens = grad.rows, items = grad.planes * tokens, own_item = global_thread() / dot_lanes;
    const std::int64_t item = own_item < items ? own_item : items - 1;  // half_warp_dot needs all threads of the warp
    const std::int64_t r = item / tokens, p = item % tokens;
    const auto sum = half_warp_dot<accumulator_t<T>>(grad[r][p], embedding[p], grad.cols);
    if (own_item >= items || threadIdx.x % dot_lanes != 0) return;
    importance[p][r] = sum;
    if (record.largest) record_one(record, sum, p, r, grad.planes);
}

// One thread per importance, which records it.
template <class T>
__global__ void record_kernel(Rows<const T> importance, ImportanceRecord record) {
    const std::int64_t i = global_thread();
    if (i >= importance.rows * importance.cols) return;
    const std::int64_t p = i / importance.cols, r = i % importance.cols;
    record_one(record, double(importance[p][r]), p, r, importance.cols);
}

// One thread per importance, which computes its level. No level is computed if record.bad names an importance.
template <class T>
__global__ void level_kernel(Rows<const T> importance, Rows<std::uint8_t> level, int levels, ImportanceRecord record) {
    const std::int64_t i = global_thread();
    if (i >= importance.rows * importance.cols || *record.bad != no_index) return;
    const std::int64_t p = i / importance.cols, r = i % importance.cols;
    level[p][r] = level_of(double(importance[p][r]), double_of(record.largest[r]), levels);
}

// One block per prompt token, which computes the token's ratio (density_ratio) and records in `bad` the lowest flat
// index of a level that is negative or not finite. Levels up to `cutoff` count as 0.
template <class T>
__global__ void ratio_kernel(Rows<const T> level, double* ratio, int cutoff, double p_norm, unsigned long long* bad) {
    __shared__ double scratch[block_threads / 32];
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
    l1 = block_sum(l1, scratch);
    power = block_sum(power, scratch);
    if (threadIdx.x == 0) ratio[p] = density_ratio(l1, power, p_norm);
}

// One block in all, which finds the largest ratio and then computes all densities. Two passes over the ratios.
template <class Out>
__global__ void density_kernel(const double* ratio, std::int64_t tokens, Out* density) {
    __shared__ double thread_largest[block_threads];
    double largest = 0;
    for (std::int64_t p = threadIdx.x; p < tokens; p += blockDim.x) largest = ratio[p] > largest ? ratio[p] : largest;
    thread_largest[threadIdx.x] = largest;
    __syncthreads();
    for (unsigned i = 0; i < blockDim.x; ++i) largest = thread_largest[i] > largest ? thread_largest[i] : largest;
    for (std::int64_t p = threadIdx.x; p < tokens; p += blockDim.x)
        density[p] = static_cast<Out>(density_of(ratio[p], largest));
}

}  // namespace

template <class T>
void grad_x_input(Planes<const T> grad, Rows<const T> embedding, Rows<accumulator_t<T>> importance,
                  ImportanceRecord record, Stream stream) {
    const std::int64_t threads = grad.planes * grad.rows * dot_lanes;
    launch(grad_x_input_kernel<T>, blocks_for(threads), block_threads, stream, grad, embedding, importance, record);
}

template <class T>
void record_importance(Rows<const T> importance, ImportanceRecord record, Stream stream) {
    const std::int64_t blocks = blocks_for(importance.rows * importance.cols);
    launch(record_kernel<T>, blocks, block_threads, stream, importance, record);
}

template <class T>
void importance_levels(Rows<const T> importance, Rows<std::uint8_t> level, int levels, ImportanceRecord record,
                       Stream stream) {
    const std::int64_t blocks = blocks_for(importance.rows * importance.cols);
    launch(level_kernel<T>, blocks, block_threads, stream, importance, level, levels, record);
}

template <class T, class Out>
void importance_density(Rows<const T> level, double* ratio, Out* density, int cutoff, double p_norm,
                        unsigned long long* bad, Stream stream) {
    launch(ratio_kernel<T>, level.rows, block_threads, stream, level, ratio, cutoff, p_norm, bad);
    launch(density_kernel<Out>, level.rows > 0 ? 1 : 0, block_threads, stream, static_cast<const double*>(ratio),
           level.rows, density);
}

#define SHIFTBENCH_FOR(T)                                                                                         \
    template void grad_x_input(Planes<const T>, Rows<const T>, Rows<accumulator_t<T>>, ImportanceRecord, Stream); \
    template void record_importance(Rows<const T>, ImportanceRecord, Stream);                                     \
    template void importance_levels(Rows<const T>, Rows<std::uint8_t>, int, ImportanceRecord, Stream);            \
    template void importance_density(Rows<const T>, double*, accumulator_t<T>*, int, double, unsigned long long*, \
                                     Stream);
SHIFTBENCH_FOR(float)
SHIFTBENCH_FOR(double)
SHIFTBENCH_FOR(bfloat16)
SHIFTBENCH_FOR(float16)
template void importance_density(Rows<const std::uint8_t>, double*, float*, int, double, unsigned long long*, Stream);
template void importance_density(Rows<const std::uint8_t>, double*, double*, int, double, unsigned long long*, Stream);

}  // namespace shiftbench::cuda
