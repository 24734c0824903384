// Work shared among threads such that no result depends on how many there are: each item is computed by one
// thread, in the same order of operations whoever computes it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <limits>
#include <thread>
#include <vector>

namespace shiftbench {

inline std::atomic<int> thread_count{static_cast<int>(std::max(1u, std::thread::hardware_concurrency()))};

// Calls f(begin, end) on disjoint ranges that cover 0..items, each of at least `grain` items where there are as
// many: starting a thread costs about as much as summing ten thousand numbers. Rethrows the first range's exception.
template <class F>
void parallel_for(std::int64_t items, std::int64_t grain, const F& f, int threads = thread_count) {
    if (items <= 0) return;
    const std::int64_t most = std::max<std::int64_t>(1, items / std::max<std::int64_t>(1, grain));
    const std::int64_t ranges = std::min<std::int64_t>(std::max(1, threads), most);
    std::vector<std::exception_ptr> failures(static_cast<std::size_t>(ranges));
    const auto run = [&](std::int64_t range) {
        try {
            f(items * range / ranges, items * (range + 1) / ranges);
        } catch (...) {
            failures[static_cast<std::size_t>(range)] = std::current_exception();
        }
    };
#ifdef _OPENMP
    // torch's own threads where both use the same OpenMP: they wait for work without sleeping, and two pools would
    // take the cores from each other.
#pragma omp parallel for num_threads(static_cast<int>(ranges)) schedule(static, 1)
    for (std::int64_t range = 0; range < ranges; ++range) run(range);
#else
    std::vector<std::thread> threads;
    for (std::int64_t range = 1; range < ranges; ++range) threads.emplace_back(run, range);
    run(0);
    for (auto& thread : threads) thread.join();
#endif
    for (const auto& failure : failures)
        if (failure) std::rethrow_exception(failure);
}

// The grain for items that each take `cost` elementary operations.
inline std::int64_t grain_of(std::int64_t cost) { return 1 + 32768 / std::max<std::int64_t>(1, cost); }

// The smallest of the indices that threads report, none being -1.
class Lowest {
public:
    void report(std::int64_t index) {
        std::int64_t seen = lowest_;
        while (index < seen && !lowest_.compare_exchange_weak(seen, index)) {
        }
    }
    std::int64_t get() const { return lowest_ == nothing ? -1 : lowest_.load(); }

private:
    static constexpr std::int64_t nothing = std::numeric_limits<std::int64_t>::max();
    std::atomic<std::int64_t> lowest_{nothing};
};

}  // namespace shiftbench
