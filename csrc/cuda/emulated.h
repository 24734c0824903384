// Emulates the part of CUDA that the kernels use, on the CPU, so that tests run the kernels' own source on machines
// without a GPU. Blocks run one after another. The threads of a block are fibers, which take turns: a fiber runs until
// it has to wait at a barrier or ends. If Block::reversed is set, blocks and threads run in descending order of their
// index; a kernel that lacks a barrier may then give other results, which tests look for.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(threads)

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace shiftbench::cuda {

using Stream = void*;

unsigned grid_size(std::int64_t blocks);  // grid.h

// The block of threads that is running; there is one object for all blocks, one after another. size, index and thread
// stand for blockDim, blockIdx and threadIdx.x; the caller of `run` sets size and index, and `run` sets thread.
class Block {
public:
    dim3 size, index;
    unsigned thread = 0;

    // Runs one block: calls the kernel once for each of the block's size.x threads, and returns when all have ended.
    // Threads take turns in ascending order of their index, or in descending order if `reversed`.
    void run(const std::function<void()>& kernel, bool reversed) {
        const unsigned threads = size.x;
        kernel_ = &kernel;
        fibers_.assign(threads, Fiber{});
        stacks_.resize(threads);
        waiting_ = 0;
        alive_ = threads;
        for (unsigned t = 0; t < threads; ++t) {
            if (!stacks_[t]) stacks_[t] = std::make_unique<char[]>(stack);
            getcontext(&fibers_[t].context);
            fibers_[t].context.uc_stack.ss_sp = stacks_[t].get();
            fibers_[t].context.uc_stack.ss_size = stack;
            fibers_[t].context.uc_link = &main_;
            makecontext(&fibers_[t].context, &Block::start, 0);
        }
        warp_waiting_.assign((threads + 31) / 32, 0);
        warp_generation_.assign(warp_waiting_.size(), 0);
        while (alive_ > 0)
            for (unsigned i = 0; i < threads; ++i) {
                thread = reversed ? threads - 1 - i : i;
                if (!fibers_[thread].done) swapcontext(&main_, &fibers_[thread].context);
            }
    }

    // __syncthreads: returns when every thread of the block has called it. If one ends without the call, the others
    // wait forever.
    void barrier() {
        const std::uint64_t mine = generation_;
        if (++waiting_ == size.x) {
            waiting_ = 0;
            ++generation_;
            return;
        }
        while (generation_ == mine) yield();
    }

    // Returns when every thread of the running thread's warp has called it. A warp is 32 consecutive threads of the
    // block.
    void warp_barrier() {
        const unsigned warp = thread / 32, lanes = std::min(32u, size.x - 32 * warp);
        const std::uint64_t mine = warp_generation_[warp];
        if (++warp_waiting_[warp] == lanes) {
            warp_waiting_[warp] = 0;
            ++warp_generation_[warp];
            return;
        }
        while (warp_generation_[warp] == mine) yield();
    }

    // Returns the `value` that thread `from` of the block passes in its call. `from` is in the running thread's warp,
    // and all threads of the warp must call this.
    template <class T>
    T exchange(T value, unsigned from) {
        static_assert(sizeof(T) <= sizeof(std::uint64_t));
        std::memcpy(&fibers_[thread].passed, &value, sizeof value);
        warp_barrier();
        std::memcpy(&value, &fibers_[from].passed, sizeof value);
        warp_barrier();
        return value;
    }

    static Block& current() {
        static Block block;
        return block;
    }
    inline static bool reversed = false;

private:
    static constexpr std::size_t stack = 256 << 10;  // bytes of a fiber's stack, on which kernels keep their registers

    struct Fiber {
        ucontext_t context;
        std::uint64_t passed = 0;  // the value that exchange() hands over
        bool done = false;
    };

    static void start() {
        Block& block = current();
        (*block.kernel_)();
        block.fibers_[block.thread].done = true;
        --block.alive_;
    }
    // Lets the other threads of the block run, and returns when it is this thread's turn again.
    void yield() {
        const unsigned mine = thread;
        swapcontext(&fibers_[mine].context, &main_);
        thread = mine;
    }

    ucontext_t main_;
    const std::function<void()>* kernel_ = nullptr;
    std::vector<Fiber> fibers_;
    std::vector<std::unique_ptr<char[]>> stacks_;
    unsigned waiting_ = 0, alive_ = 0;
    std::uint64_t generation_ = 0;
    std::vector<unsigned> warp_waiting_;
    std::vector<std::uint64_t> warp_generation_;
};

template <class... P, class... A>
void launch(void (*kernel)(P...), std::int64_t blocks, unsigned threads, Stream, A... arguments) {
    Block& block = Block::current();
    block.size = dim3(threads);
    const unsigned size = grid_size(blocks);
    for (unsigned i = 0; i < size; ++i) {
        block.index = dim3(Block::reversed ? size - 1 - i : i);
        block.run([&] { kernel(arguments...); }, Block::reversed);
    }
}

inline void use_device(int) {}

}  // namespace shiftbench::cuda

#define threadIdx (dim3(::shiftbench::cuda::Block::current().thread))
#define blockIdx (::shiftbench::cuda::Block::current().index)
#define blockDim (::shiftbench::cuda::Block::current().size)

inline void __syncthreads() { ::shiftbench::cuda::Block::current().barrier(); }

template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
    auto& block = ::shiftbench::cuda::Block::current();
    return block.exchange(value, block.thread ^ static_cast<unsigned>(mask));
}

template <class T>
T atomicAdd(T* at, T value) {
    const T old = *at;
    *at = old + value;
    return old;
}
template <class T>
T atomicMin(T* at, T value) {
    const T old = *at;
    if (value < old) *at = value;
    return old;
}
template <class T>
T atomicMax(T* at, T value) {
    const T old = *at;
    if (value > old) *at = value;
    return old;
}
template <class T>
T atomicCAS(T* at, T expected, T value) {
    const T old = *at;
    if (old == expected) *at = value;
    return old;
}
