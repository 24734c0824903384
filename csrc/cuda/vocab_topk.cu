#include "vocab_topk.h"

#include <cstring>
#include <type_traits>

namespace shiftbench::cuda {

namespace {

template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;

template <class T>
__device__ T number_of_bits(Bits<T> bits) {
    T value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

template <class T>
__device__ Bits<T> infinity_bits() {
    return sizeof(T) == 4 ? Bits<T>(0x7f800000u) : Bits<T>(0x7ff0000000000000ull);
}

template <class T>
__device__ T magnitude(T x) {
    return x < 0 ? -x : x;
}

// The candidates of the direction that a block works on (Candidates in vocab_topk.h).
template <class T>
struct BlockCandidates {
    T* score;
    std::int32_t* word;
    std::int32_t* count;  // in shared memory
    T* kth_bound;         // in shared memory
    T error;
    std::int32_t k;
    std::int32_t* scratch;  // in shared memory, for block_sum

    __device__ T threshold() const { return *kth_bound - error; }

    // Does what Candidates::prune does on the CPU (shiftbench/candidates.h): bisects the representable numbers for a
    // magnitude that at least k candidates reach, and drops the candidates that k others exceed whatever the errors
    // are. All threads of the block must call this, after a barrier that follows their last push.
    __device__ void prune() {
        constexpr int per_thread = max_candidates / block_threads;
        const std::int32_t held = *count;
        Bits<T> low = 0, high = infinity_bits<T>();
        while (high - low > 1) {
            const Bits<T> middle = low + (high - low) / 2;
            std::int32_t reached = 0;
            for (std::int32_t i = threadIdx.x; i < held; i += blockDim.x)
                reached += magnitude(score[i]) >= number_of_bits<T>(middle);
            reached = block_sum(reached, scratch);
            if (reached >= k)
                low = middle;
            else
                high = middle;
            if (reached >= k && reached <= k + 16) break;  // as on the CPU: close enough, where ties allow it
        }
        T kept_score[per_thread];
        std::int32_t kept_word[per_thread];
        for (int n = 0; n < per_thread; ++n) {
            const std::int32_t i = n * block_threads + threadIdx.x;
            if (i < held) {
                kept_score[n] = score[i];
                kept_word[n] = word[i];
            }
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            const T bound = number_of_bits<T>(low) - error;
            *kth_bound = bound > *kth_bound ? bound : *kth_bound;
            *count = 0;
        }
        __syncthreads();
        for (int n = 0; n < per_thread; ++n)
            if (static_cast<std::int32_t>(n * block_threads + threadIdx.x) < held &&
                magnitude(kept_score[n]) >= threshold())
                push(kept_score[n], kept_word[n]);
        __syncthreads();
    }

    // Adds one candidate; several threads may do so at once. The caller makes sure that there is room.
    __device__ void push(T value, std::int32_t which) {
        const std::int32_t slot = atomicAdd(count, 1);
        score[slot] = value;
        word[slot] = which;
    }
};

// One block per direction, which adds words of the tile to the direction's candidates (topk_collect).
template <class T>
__global__ void __launch_bounds__(block_threads)
    collect_kernel(Rows<const T> tile, std::int64_t first_word, Candidates<T> all) {
    __shared__ std::int32_t count, scratch[block_threads / 32];
    __shared__ T kth_bound;
    const std::int64_t c = blockIdx.x, capacity = all.score.cols;
    if (threadIdx.x == 0) {
        count = all.count[c];
        kth_bound = all.kth_bound[c];
    }
    __syncthreads();
    if (count == overflowed) return;
    BlockCandidates<T> candidates{all.score[c], all.word + c * capacity, &count, &kth_bound, all.error[c], all.k,
                                  scratch};
    bool full = false;
    for (std::int64_t begin = 0; begin < tile.cols && !full; begin += words_per_check) {
        const std::int64_t there = tile.cols - begin < words_per_check ? tile.cols - begin : words_per_check;
        if (count + there > capacity) {
            candidates.prune();
            full = count + there > capacity;
        }
        __syncthreads();  // every thread must have read the count before one of them raises it
        const T threshold = candidates.threshold();
        for (std::int64_t w = begin + threadIdx.x; w < begin + there && !full; w += blockDim.x) {
            const T value = tile[c][w];
            if (magnitude(value) >= threshold) candidates.push(value, static_cast<std::int32_t>(first_word + w));
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        all.count[c] = full ? overflowed : count;
        all.kth_bound[c] = kth_bound;
    }
}

// One block per direction. It prunes the candidates by their approximate scores, computes the exact scores of those
// that are left, and writes each of the k best to the place of its rank. The rank is found by comparing every candidate
// with every other; after pruning there are seldom many more of them than k. For a direction that has overflowed,
// nothing is written.
template <class T, class E>
__global__ void __launch_bounds__(block_threads)
    finish_kernel(Rows<const E> embedding, Rows<const T> direction, Candidates<T> all, Rows<T> value,
                  Rows<std::int64_t> index) {
    __shared__ std::int32_t count, scratch[block_threads / 32];
    __shared__ T kth_bound;
    const std::int64_t c = blockIdx.x;
    if (threadIdx.x == 0) {
        count = all.count[c];
        kth_bound = all.kth_bound[c];
    }
    __syncthreads();
    if (count == overflowed) return;
    BlockCandidates<T> candidates{all.score[c], all.word + c * all.score.cols, &count, &kth_bound, all.error[c], all.k,
                                  scratch};
    candidates.prune();
    const std::int32_t held = count, at_once = block_threads / dot_lanes;
    for (std::int32_t begin = 0; begin < held; begin += at_once) {
        const std::int32_t own = begin + static_cast<std::int32_t>(threadIdx.x / dot_lanes);
        const std::int32_t i = own < held ? own : held - 1;  // half_warp_dot needs all threads of the warp
        const double exact = half_warp_dot<double>(embedding[candidates.word[i]], direction[c], embedding.cols);
        if (own < held && threadIdx.x % dot_lanes == 0) candidates.score[i] = static_cast<T>(exact);
    }
    __syncthreads();
    for (std::int32_t i = threadIdx.x; i < held; i += blockDim.x) {
        std::int32_t rank = 0;
        for (std::int32_t j = 0; j < held; ++j)
            rank += precedes(candidates.score[j], static_cast<std::uint32_t>(candidates.word[j]), candidates.score[i],
                             static_cast<std::uint32_t>(candidates.word[i]));
        if (rank >= all.k) continue;
        value[c][rank] = candidates.score[i];
        index[c][rank] = candidates.word[i];
    }
}

}  // namespace

template <class T>
void topk_collect(Rows<const T> score, std::int64_t first_word, Candidates<T> candidates, Stream stream) {
    launch(collect_kernel<T>, score.rows, block_threads, stream, score, first_word, candidates);
}

template <class T, class E>
void topk_finish(Rows<const E> embedding, Rows<const T> direction, Candidates<T> candidates, Rows<T> value,
                 Rows<std::int64_t> index, Stream stream) {
    launch(finish_kernel<T, E>, direction.rows, block_threads, stream, embedding, direction, candidates, value, index);
}

template void topk_collect(Rows<const float>, std::int64_t, Candidates<float>, Stream);
template void topk_collect(Rows<const double>, std::int64_t, Candidates<double>, Stream);
#define SHIFTBENCH_FOR(T, E) \
    template void topk_finish(Rows<const E>, Rows<const T>, Candidates<T>, Rows<T>, Rows<std::int64_t>, Stream);
SHIFTBENCH_FOR(float, float)
SHIFTBENCH_FOR(float, bfloat16)
SHIFTBENCH_FOR(float, float16)
SHIFTBENCH_FOR(double, double)
SHIFTBENCH_FOR(double, float)
SHIFTBENCH_FOR(double, bfloat16)
SHIFTBENCH_FOR(double, float16)

}  // namespace shiftbench::cuda
