// The loops that compute the same numbers with every instruction set, compiled without fused multiply-adds; the packing
// of rounded rows, where this instruction set has it (rounded.h); and the table of all innermost loops of this
// instruction set (shiftbench/kernels.h). What this file may include and call: tile.h, "Linkage".
#include <cstring>

#include "filter.h"
#include "pack.h"
#include "rounded.h"
#include "score.h"
#include "shiftbench/kernels.h"
#include "stages.h"
#include "tile.h"

#define SHIFTBENCH_STRING_(x) #x
#define SHIFTBENCH_STRING(x) SHIFTBENCH_STRING_(x)

namespace {

using shiftbench::bfloat16;
using shiftbench::float16;

// The inner product of x and y, n elements each, summed in type A in the order that shiftbench/formulas.h describes.
// The order is fixed, and yet the compiler can vectorise it without -ffast-math. Its rounding error grows with 16 + n /
// 256; that of a single running sum grows with n. One pass over x and y.
template <class A, class X, class Y>
A ordered_dot(const X* x, const Y* y, std::int64_t n) {
    constexpr std::int64_t lanes = shiftbench::dot_lanes, stretch = shiftbench::dot_stretch;
    A total = 0;
    for (std::int64_t begin = 0; begin < n; begin += stretch) {
        const std::int64_t end = n - begin < stretch ? n : begin + stretch,
                           whole = begin + (end - begin) / lanes * lanes;
        A sum[lanes] = {};
        for (std::int64_t i = begin; i < whole; i += lanes)
            for (std::int64_t lane = 0; lane < lanes; ++lane) sum[lane] += A(x[i + lane]) * A(y[i + lane]);
        for (std::int64_t i = whole; i < end; ++i) sum[i - whole] += A(x[i]) * A(y[i]);
        for (std::int64_t half = lanes / 2; half > 0; half /= 2)
            for (std::int64_t lane = 0; lane < half; ++lane) sum[lane] += sum[lane + half];
        total += sum[0];
    }
    return total;
}

template <class T>
void pack_directions(const T* first_row, std::int64_t stride, std::int64_t rows, std::int64_t width, T* packed) {
    pack(first_row, stride, rows, width, tile_directions, packed);
}

// How many of the n elements of x have a magnitude of at least `threshold` (Tiles::count_at_least).
template <class T>
std::int64_t count_at_least(const T* x, std::int64_t n, T threshold) {
    std::int32_t found = 0;
    for (std::int64_t i = 0; i < n; ++i) found += (x[i] < 0 ? -x[i] : x[i]) >= threshold;
    return found;
}

template <class T>
constexpr shiftbench::cpu::Tiles<T> tiles{
    tile_directions, tile_words<T>,     false, shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS::score, count_at_least<T>,
    keep_at_least,   pack_directions<T>};

namespace own = shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS;
template <class T>
constexpr shiftbench::cpu::Stages<T> stages{own::norm_derivative,       own::rotary_derivative,
                                            own::activation_derivative, own::merged_projection_derivative,
                                            own::attention_derivative,  own::cached_attention,
                                            own::small_batch_linear,    own::norm_forward,
                                            own::split_heads,           own::causal_attention_forward};

// The table is constexpr, so that no code initialises it when the module is loaded: that code would be compiled for
// this instruction set and would run on every CPU.
constexpr shiftbench::cpu::Kernels table{
    SHIFTBENCH_STRING(SHIFTBENCH_INSTRUCTIONS),
    {ordered_dot, ordered_dot, ordered_dot, ordered_dot, ordered_dot, ordered_dot, ordered_dot, ordered_dot,
     ordered_dot, ordered_dot, ordered_dot, ordered_dot},
    {pack_words, pack_words, pack_words, pack_words, pack_words, pack_words, pack_words},
    {tiles<float>, tiles<double>},
#ifdef __AVX512VNNI__
    {true,
     {tile_directions, tile_words<float>, true, own::score_rounded, count_at_least<float>, keep_at_least,
      pack_directions_rounded},
     {pack_words_rounded, pack_words_rounded, pack_words_rounded}},
#else
    {},
#endif
    {stages<float>, stages<double>},
};

}  // namespace

namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS {

extern const Kernels kernels = table;

}  // namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS
