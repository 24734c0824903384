#include "vocab_topk.h"

#include <cstring>
#include <type_traits>

namespace shiftbench::cuda {

namespace {

template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;

template <class T>
__device__ T number(Bits<T> bits) {
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

// One direction's candidates while its block works on them.
template <class T>
struct Held {
    T* score;
    std::int32_t* word;
    std::int32_t* count;  // shared
    T* sure;              // shared
    T error;
    std::int32_t k;
    std::int32_t* room;  // shared, for block_sum

    __device__ T least() const { return *sure - error; }

    // As on the CPU (candidates.h): finds a magnitude that at least k reach, and drops what k others exceed whatever
    // the errors. Every thread of the block must come here, none between a barrier and a write to the candidates.
    __device__ void cut() {
        constexpr int each = most_candidates / block_threads;
        const std::int32_t held = *count;
        Bits<T> low = 0, high = infinity_bits<T>();
        while (high - low > 1) {
            const Bits<T> middle = low + (high - low) / 2;
            std::int32_t reach = 0;
            for (std::int32_t i = threadIdx.x; i < held; i += blockDim.x)
                reach += magnitude(score[i]) >= number<T>(middle);
            reach = block_sum(reach, room);
            if (reach >= k)
                low = middle;
            else
                high = middle;
            if (reach >= k && reach <= k + 16) break;
        }
        T kept_score[each];
        std::int32_t kept_word[each];
        for (int n = 0; n < each; ++n) {
            const std::int32_t i = n * block_threads + threadIdx.x;
            if (i < held) {
                kept_score[n] = score[i];
                kept_word[n] = word[i];
            }
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            const T reached = number<T>(low) - error;
            *sure = reached > *sure ? reached : *sure;
            *count = 0;
        }
        __syncthreads();
        for (int n = 0; n < each; ++n)
            if (static_cast<std::int32_t>(n * block_threads + threadIdx.x) < held &&
                magnitude(kept_score[n]) >= least())
                push(kept_score[n], kept_word[n]);
        __syncthreads();
    }

    __device__ void push(T value, std::int32_t which) {
        const std::int32_t slot = atomicAdd(count, 1);
        score[slot] = value;
        word[slot] = which;
    }
};

// A block a direction.
template <class T>
__global__ void __launch_bounds__(block_threads)
    collect_kernel(Rows<const T> tile, std::int64_t first_word, Candidates<T> all) {
    __shared__ std::int32_t count, room[block_threads / 32];
    __shared__ T sure;
    const std::int64_t c = blockIdx.x, capacity = all.score.cols;
    if (threadIdx.x == 0) {
        count = all.count[c];
        sure = all.sure[c];
    }
    __syncthreads();
    if (count == overflowed) return;
    Held<T> mine{all.score[c], all.word + c * capacity, &count, &sure, all.error[c], all.k, room};
    bool full = false;
    for (std::int64_t begin = 0; begin < tile.cols && !full; begin += words_at_once) {
        const std::int64_t there = tile.cols - begin < words_at_once ? tile.cols - begin : words_at_once;
        if (count + there > capacity) {
            mine.cut();
            full = count + there > capacity;
        }
        __syncthreads();  // all have read the count before anyone raises it
        const T least = mine.least();
        for (std::int64_t w = begin + threadIdx.x; w < begin + there && !full; w += blockDim.x) {
            const T value = tile[c][w];
            if (magnitude(value) >= least) mine.push(value, static_cast<std::int32_t>(first_word + w));
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        all.count[c] = full ? overflowed : count;
        all.sure[c] = sure;
    }
}

// A block a direction: exact scores of what is left, each written where its rank is.
template <class T, class E>
__global__ void __launch_bounds__(block_threads)
    finish_kernel(Rows<const E> embedding, Rows<const T> direction, Candidates<T> all, Rows<T> value,
                  Rows<std::int64_t> index) {
    __shared__ std::int32_t count, room[block_threads / 32];
    __shared__ T sure;
    const std::int64_t c = blockIdx.x;
    if (threadIdx.x == 0) {
        count = all.count[c];
        sure = all.sure[c];
    }
    __syncthreads();
    if (count == overflowed) return;
    Held<T> mine{all.score[c], all.word + c * all.score.cols, &count, &sure, all.error[c], all.k, room};
    mine.cut();
    const std::int32_t held = count, at_once = block_threads / dot_lanes;
    for (std::int32_t begin = 0; begin < held; begin += at_once) {
        const std::int32_t own = begin + static_cast<std::int32_t>(threadIdx.x / dot_lanes);
        const std::int32_t i = own < held ? own : held - 1;  // a whole warp is needed to the end
        const double exact = half_warp_dot<double>(embedding[mine.word[i]], direction[c], embedding.cols);
        if (own < held && threadIdx.x % dot_lanes == 0) mine.score[i] = static_cast<T>(exact);
    }
    __syncthreads();
    for (std::int32_t i = threadIdx.x; i < held; i += blockDim.x) {
        std::int32_t rank = 0;
        for (std::int32_t j = 0; j < held; ++j)
            rank += precedes(mine.score[j], static_cast<std::uint32_t>(mine.word[j]), mine.score[i],
                             static_cast<std::uint32_t>(mine.word[i]));
        if (rank >= all.k) continue;
        value[c][rank] = mine.score[i];
        index[c][rank] = mine.word[i];
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
