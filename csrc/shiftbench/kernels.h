// The innermost loops, compiled once for each instruction set (csrc/kernels/, CMakeLists.txt). All but Tiles::score,
// Rounded and Stages give the same bytes in every set. This header only declares: code in it could be compiled for one
// set and linked into another's callers.
#pragma once

#include <cstdint>
#include <tuple>

#include "number.h"
#include "stages.h"

namespace shiftbench::cpu {

// The inner product of n numbers, summed in type A in one fixed order.
template <class A, class X, class Y>
using Dot = A (*)(const X* x, const Y* y, std::int64_t n);

// Scores are made a tile at a time: so many directions times so many words, all in registers. What goes in is packed:
// the first numbers of all the tile's rows, then the second numbers, and so on. Rounded rows have two numbers in a
// slot, and before them each row's step and the norm of what its rounding took away.
template <class T, class E>
using Pack = void (*)(const E* first_row, std::int64_t stride, std::int64_t rows, std::int64_t width, T* packed);

template <class T>
struct Tiles {
    std::int64_t directions, words;
    bool rounded;
    // score[d, w] = direction[d] . word[w]; the last bits depend on the instruction set. Returns a bit for each
    // direction one of whose scores is at least least[d] in magnitude.
    std::uint32_t (*score)(const T* direction, const T* word, std::int64_t slots, const T* least, T* score);
    // How many of n numbers are at least `least` in magnitude.
    std::int64_t (*count)(const T* x, std::int64_t n, T least);
    // Copies to `to` those of n numbers that are at least `least` in magnitude, with their words; may write up to a
    // tile's words behind them, and `to` may be x. Returns how many there are.
    std::int64_t (*keep)(const T* x, const std::uint32_t* word, std::int64_t n, T least, T* to, std::uint32_t* to_word);
    Pack<T, T> pack_directions;
};

// Tiles of rounded rows, which are made faster. Not every instruction set has them.
struct Rounded {
    bool there;
    Tiles<float> tiles;
    std::tuple<Pack<float, float>, Pack<float, bfloat16>, Pack<float, float16>> pack_words;
};

struct Kernels {
    const char* name;
    std::tuple<Dot<float, float, float>, Dot<float, bfloat16, bfloat16>, Dot<float, float16, float16>,
               Dot<double, float, float>, Dot<double, bfloat16, bfloat16>, Dot<double, float16, float16>,
               Dot<double, bfloat16, float>, Dot<double, float16, float>, Dot<double, double, double>,
               Dot<double, float, double>, Dot<double, bfloat16, double>, Dot<double, float16, double>>
        dots;
    std::tuple<Pack<float, float>, Pack<float, bfloat16>, Pack<float, float16>, Pack<double, double>,
               Pack<double, float>, Pack<double, bfloat16>, Pack<double, float16>>
        pack_words;
    std::tuple<Tiles<float>, Tiles<double>> tiles;
    Rounded rounded;
    std::tuple<Stages<float>, Stages<double>> stages;
};

}  // namespace shiftbench::cpu
