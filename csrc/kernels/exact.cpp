// The loops whose every rounding is fixed: the same bytes in every instruction set; and packing for rounded tiles.
// Templates here are in an unnamed namespace and call no other that could be linked once for all sets.
#include <cstring>

#include "keep.h"
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

// Summed in type A. Sixteen running sums per stretch, added as a tree; then stretch after stretch. The order is fixed,
// vectorises without -ffast-math, and its rounding error grows with 16 + n / 256 where a running sum's grows with n.
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

template <class T>
std::int64_t count(const T* x, std::int64_t n, T least) {
    std::int32_t found = 0;
    for (std::int64_t i = 0; i < n; ++i) found += (x[i] < 0 ? -x[i] : x[i]) >= least;
    return found;
}

template <class T>
constexpr shiftbench::cpu::Tiles<T> tiles{
    tile_directions,   tile_words<T>, false, shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS::score, count<T>, keep,
    pack_directions<T>};

namespace own = shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS;
template <class T>
constexpr shiftbench::cpu::Stages<T> stages{own::norm_rows,      own::rotate_rows, own::gate_rows, own::gated_rows,
                                            own::attention_rows, own::attend_rows, own::thin_rows, own::norm_forward,
                                            own::heads_forward,  own::mix_forward};

// Made by the compiler: no code of this instruction set runs before it is chosen.
constexpr shiftbench::cpu::Kernels table{
    SHIFTBENCH_STRING(SHIFTBENCH_INSTRUCTIONS),
    {ordered_dot, ordered_dot, ordered_dot, ordered_dot, ordered_dot, ordered_dot, ordered_dot, ordered_dot,
     ordered_dot, ordered_dot, ordered_dot, ordered_dot},
    {pack_words, pack_words, pack_words, pack_words, pack_words, pack_words, pack_words},
    {tiles<float>, tiles<double>},
#ifdef __AVX512VNNI__
    {true,
     {tile_directions, tile_words<float>, true, own::score_rounded, count<float>, keep, pack_directions_rounded},
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
