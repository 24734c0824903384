#include "bootstrap.h"

#include "shiftbench/random.h"

namespace shiftbench::cuda {

namespace {

// Gives drawn_sum the random bits of a resample: operator()(i) returns those of position `position + i`.
struct DrawBits {
    const Draw& draw;
    std::int64_t position;

    __device__ std::uint32_t operator()(std::int64_t i) const {
        const auto index = static_cast<std::uint64_t>(position + i);
        const std::uint64_t both = draw[index / 2];
        return static_cast<std::uint32_t>(index % 2 ? both >> 32 : both);
    }
};

// One thread per resample. As on the CPU, a new partial sum begins with each block of draw_block positions, so sums are
// rounded alike. A thread computes each random number of 64 bits twice, once for each of the two positions that the
// number serves.
__global__ void bootstrap_kernel(const double* value, const std::int64_t* length, std::uint64_t seed,
                                 Rows<double> mean) {
    const std::int64_t s = global_thread();
    if (s >= mean.rows) return;
    const Draw draw(seed, static_cast<std::uint64_t>(s));
    std::int64_t position = 0;
    for (std::int64_t g = 0; g < mean.cols; ++g) {
        const std::int64_t first = position, last = first + length[g];
        double total = 0;
        while (position < last) {
            const std::int64_t block_end = (position / draw_block + 1) * draw_block;
            const std::int64_t stop = last < block_end ? last : block_end;
            total += drawn_sum(value + first, static_cast<std::uint64_t>(length[g]), stop - position,
                               DrawBits{draw, position});
            position = stop;
        }
        mean[s][g] = total / static_cast<double>(length[g]);
    }
}

}  // namespace

void bootstrap(const double* value, const std::int64_t* length, std::uint64_t seed, Rows<double> mean, Stream stream) {
    launch(bootstrap_kernel, blocks_for(mean.rows), block_threads, stream, value, length, seed, mean);
}

}  // namespace shiftbench::cuda
