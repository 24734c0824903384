// Sharing work among threads so that no result depends on the number of threads. Every item is computed by one thread,
// with the same operations in the same order whichever thread it is; nothing is summed across threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <limits>
#include <thread>
#include <vector>

namespace shiftbench {

// The largest number of threads that parallel_for uses unless its caller passes another one.
inline std::atomic<int> thread_count{static_cast<int>(std::max(1u, std::thread::hardware_concurrency()))};

// Splits [0, items) into at most `threads` contiguous ranges of nearly equal size and calls f(begin, end) for each, one
// thread per range; ranges for which no thread can be started run in the calling thread. A range has at least `grain`
// items, unless there are fewer items than that. If there are no items, f is not called. An exception in a range is
// rethrown here after all ranges have ended; of several exceptions, that of the lowest range.
template <class F>
void parallel_for(std::int64_t items, std::int64_t grain, const F& f, int threads = thread_count) {
    if (items <= 0) return;
    const std::int64_t max_ranges = std::max<std::int64_t>(1, items / std::max<std::int64_t>(1, grain));
    const std::int64_t ranges = std::min<std::int64_t>(std::max(1, threads), max_ranges);
    std::vector<std::exception_ptr> failures(static_cast<std::size_t>(ranges));
    const auto run = [&](std::int64_t range) {
        try {
            f(items * range / ranges, items * (range + 1) / ranges);
        } catch (...) {
            failures[static_cast<std::size_t>(range)] = std::current_exception();
        }
    };
#ifdef _OPENMP
    // Where torch and this module load the same OpenMP library, these are torch's own threads. A second pool of threads
    // would compete with torch's for the cores, because OpenMP's threads spin while they wait for work.
#pragma omp parallel for num_threads(static_cast<int>(ranges)) schedule(static, 1)
    for (std::int64_t range = 0; range < ranges; ++range) run(range);
#else
    std::vector<std::thread> workers;
    workers.reserve(static_cast<std::size_t>(ranges));
    std::int64_t first_here = 1;  // the calling thread runs range 0 and those from this one on
    try {
        for (; first_here < ranges; ++first_here) workers.emplace_back(run, first_here);
    } catch (...) {  // There is no room for another thread. To leave without joining the others would end the process.
    }
    run(0);
    for (std::int64_t range = first_here; range < ranges; ++range) run(range);
    for (auto& worker : workers) worker.join();
#endif
    for (const auto& failure : failures)
        if (failure) std::rethrow_exception(failure);
}

// The smallest number of elementary operations (a multiplication and an addition) for which a thread is started. To
// start a thread costs about as much as to add ten thousand numbers, so the start takes at most about a quarter of the
// time that the thread is in use.
constexpr std::int64_t operations_per_thread = 32768;

// The `grain` to pass to parallel_for for items that take `cost` elementary operations each: so many items that they
// take at least operations_per_thread operations together.
inline std::int64_t grain_of(std::int64_t cost) { return 1 + operations_per_thread / std::max<std::int64_t>(1, cost); }

// The lowest of the indices that threads report, whatever the order of the reports; -1 if none was reported.
class LowestIndex {
public:
    void report(std::int64_t index) {
        std::int64_t seen = lowest_;
        while (index < seen && !lowest_.compare_exchange_weak(seen, index)) {
        }
    }
    std::int64_t get() const { return lowest_ == none ? -1 : lowest_.load(); }

private:
    static constexpr std::int64_t none = std::numeric_limits<std::int64_t>::max();
    std::atomic<std::int64_t> lowest_{none};
};

}  // namespace shiftbench
