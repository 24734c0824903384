// Tiles of scores: a matrix product that never leaves the registers. Compiled with fused multiply-adds, which round
// differently from one instruction set to the next; its scores only choose candidates (shiftbench/vocab_topk.h).
#include "score.h"

#include <cstring>

#include "tile.h"

namespace {

template <class T>
std::uint32_t score_tile(const T* direction, const T* word, std::int64_t width, const T* least, T* score) {
    constexpr int lanes = lanes_of<T>;
    Vector<T> sum[tile_directions][2] = {};
    for (std::int64_t i = 0; i < width; ++i) {
        Vector<T> left, right;
        std::memcpy(&left, word, sizeof left);
        std::memcpy(&right, word + lanes, sizeof right);
#pragma GCC unroll 16
        for (int d = 0; d < tile_directions; ++d) {
            sum[d][0] += direction[d] * left;
            sum[d][1] += direction[d] * right;
        }
        word += 2 * lanes;
        direction += tile_directions;
    }
    std::memcpy(score, sum, sizeof sum);
    std::uint32_t found = 0;
    for (int d = 0; d < tile_directions; ++d) {
        int any = 0;
        for (int w = 0; w < 2 * lanes; ++w) {
            const T x = score[d * 2 * lanes + w];
            any |= (x < 0 ? -x : x) >= least[d];
        }
        found |= std::uint32_t(any) << d;
    }
    return found;
}

}  // namespace

namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS {

std::uint32_t score(const float* direction, const float* word, std::int64_t width, const float* least, float* score) {
    return score_tile(direction, word, width, least, score);
}
std::uint32_t score(const double* direction, const double* word, std::int64_t width, const double* least,
                    double* score) {
    return score_tile(direction, word, width, least, score);
}

}  // namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS
