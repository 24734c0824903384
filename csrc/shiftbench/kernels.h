// The table of innermost loops. csrc/kernels/ is compiled once for each instruction set (CMakeLists.txt), and each
// compilation fills one such table. All entries but Tiles::score, RoundedTiles and Stages give the same bytes with
// every instruction set. This header declares and defines nothing: a function defined here could be compiled for one
// instruction set and then be linked into code that runs on CPUs without it.
#pragma once

#include <cstdint>
#include <tuple>

#include "number.h"
#include "stages.h"

namespace shiftbench::cpu {

// The inner product of n elements, summed in type A in the fixed order that formulas.h describes.
template <class A, class X, class Y>
using Dot = A (*)(const X* x, const Y* y, std::int64_t n);

// Copies rows of a matrix into the layout that a tile reads. The tile is a block of scores, some directions times some
// words, whose sums all stay in registers. Packed rows are interleaved: element 0 of all rows of the tile, then element
// 1 of all rows, and so on; each of these groups is a slot. `width` is the length of a row, and `rows` may be less than
// the tile has, in which case the missing rows are packed as zeros.
// Rows rounded to 16 bits have two elements per slot. Two more slots precede them: the step of each row, and the norm
// of what rounding took from it.
template <class T, class E>
using Pack = void (*)(const E* first_row, std::int64_t stride, std::int64_t rows, std::int64_t width, T* packed);

template <class T>
struct Tiles {
    std::int64_t directions, words;  // of a tile
    bool rounded;                    // whether packed rows are rounded to 16 bits
    // score[d, w] = direction[d] . word[w]; the last bits depend on the instruction set. Bit d of the result is set if
    // one of the direction's scores has a magnitude of at least threshold[d].
    std::uint32_t (*score)(const T* direction, const T* word, std::int64_t slots, const T* threshold, T* score);
    // How many of the n elements of x have a magnitude of at least `threshold`.
    std::int64_t (*count_at_least)(const T* x, std::int64_t n, T threshold);
    // Copies the elements of x whose magnitude is at least `threshold`, and their words, to `kept` and `kept_word`, and
    // returns their number. `kept` may be x. Up to Tiles::words elements behind the last one kept may be overwritten.
    std::int64_t (*keep_at_least)(const T* x, const std::uint32_t* word, std::int64_t n, T threshold, T* kept,
                                  std::uint32_t* kept_word);
    Pack<T, T> pack_directions;
};

// Tiles of rows that are rounded to 16-bit integers. They are faster, and not every instruction set has them.
struct RoundedTiles {
    bool available;
    Tiles<float> tiles;
    std::tuple<Pack<float, float>, Pack<float, bfloat16>, Pack<float, float16>> pack_words;
};

struct Kernels {
    const char* name;  // of the instruction set
    std::tuple<Dot<float, float, float>, Dot<float, bfloat16, bfloat16>, Dot<float, float16, float16>,
               Dot<double, float, float>, Dot<double, bfloat16, bfloat16>, Dot<double, float16, float16>,
               Dot<double, bfloat16, float>, Dot<double, float16, float>, Dot<double, double, double>,
               Dot<double, float, double>, Dot<double, bfloat16, double>, Dot<double, float16, double>>
        dots;
    std::tuple<Pack<float, float>, Pack<float, bfloat16>, Pack<float, float16>, Pack<double, double>,
               Pack<double, float>, Pack<double, bfloat16>, Pack<double, float16>>
        pack_words;
    std::tuple<Tiles<float>, Tiles<double>> tiles;
    RoundedTiles rounded;
    std::tuple<Stages<float>, Stages<double>> stages;
};

}  // namespace shiftbench::cpu
