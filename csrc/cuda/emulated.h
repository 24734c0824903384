// What the kernels use of CUDA, on the CPU: every thread of a block is a fiber, blocks run one after another. For tests
// on machines without a GPU, of the very kernels that run on one; a missing barrier shows when the order is reversed.
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

class Block {
public:
    dim3 size, index;
    unsigned thread = 0;

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
        warp_turn_.assign(warp_waiting_.size(), 0);
        while (alive_ > 0)
            for (unsigned i = 0; i < threads; ++i) {
                thread = reversed ? threads - 1 - i : i;
                if (!fibers_[thread].done) swapcontext(&main_, &fibers_[thread].context);
            }
    }

    void barrier() {
        const std::uint64_t mine = turn_;
        if (++waiting_ == size.x) {
            waiting_ = 0;
            ++turn_;
            return;
        }
        while (turn_ == mine) yield();
    }

    void warp_barrier() {
        const unsigned warp = thread / 32, lanes = std::min(32u, size.x - 32 * warp);
        const std::uint64_t mine = warp_turn_[warp];
        if (++warp_waiting_[warp] == lanes) {
            warp_waiting_[warp] = 0;
            ++warp_turn_[warp];
            return;
        }
        while (warp_turn_[warp] == mine) yield();
    }

    template <class T>
    T exchange(T value, unsigned from) {
        static_assert(sizeof(T) <= sizeof(std::uint64_t));
        std::memcpy(&fibers_[thread].passed, &value, sizeof value);
        warp_barrier();
        std::memcpy(&value, &fibers_[from].passed, sizeof value);
        warp_barrier();
        return value;
    }

    static Block& here() {
        static Block block;
        return block;
    }
    inline static bool reversed = false;

private:
    static constexpr std::size_t stack = 256 << 10;

    struct Fiber {
        ucontext_t context;
        std::uint64_t passed = 0;
        bool done = false;
    };

    static void start() {
        Block& block = here();
        (*block.kernel_)();
        block.fibers_[block.thread].done = true;
        --block.alive_;
    }
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
    std::uint64_t turn_ = 0;
    std::vector<unsigned> warp_waiting_;
    std::vector<std::uint64_t> warp_turn_;
};

template <class... P, class... A>
void launch(void (*kernel)(P...), std::int64_t blocks, unsigned threads, Stream, A... arguments) {
    Block& block = Block::here();
    block.size = dim3(threads);
    for (std::int64_t i = 0; i < blocks; ++i) {
        block.index = dim3(static_cast<unsigned>(Block::reversed ? blocks - 1 - i : i));
        block.run([&] { kernel(arguments...); }, Block::reversed);
    }
}

inline void use_device(int) {}

}  // namespace shiftbench::cuda

#define threadIdx (dim3(::shiftbench::cuda::Block::here().thread))
#define blockIdx (::shiftbench::cuda::Block::here().index)
#define blockDim (::shiftbench::cuda::Block::here().size)

inline void __syncthreads() { ::shiftbench::cuda::Block::here().barrier(); }

template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
    auto& block = ::shiftbench::cuda::Block::here();
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
