// The table of innermost loops. csrc/kernels/ is compiled once for each instruction set (CMakeLists.txt), and each
// compilation fills one such table. All entries but Tiles::score, RoundedTiles and Stages compute the same numbers, to
// the last bit, with every instruction set; but the layout of packed rows follows the shape of the instruction set's
// tiles. This header declares types and defines no function: a function defined here could be compiled for one
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

// Copies rows of a matrix, of words or of directions, into the layout that a tile reads. A tile is a block of scores,
// some directions times some words, whose sums all stay in registers. Packed rows are interleaved: element 0 of all
// rows of the tile, then element 1 of all rows, and so on; each of these groups is a slot. `width` is the length of a
// row and `stride` the distance of two rows. `rows` may be less than the tile has; the missing rows are packed as
// zeros. Where rows are rounded to 16-bit integers (csrc/kernels/rounded.h), a slot holds two elements of each row. Two
// more slots precede these: the first holds the step of each row, the second the norm of (row - rounded row).
template <class T, class E>
using Pack = void (*)(const E* first_row, std::int64_t stride, std::int64_t rows, std::int64_t width, T* packed);

// The loops that score words against directions, a tile at a time.
template <class T>
struct Tiles {
    std::int64_t directions, words;  // how many of each a tile has
    bool rounded;                    // whether packed rows are rounded to 16-bit integers
    // Computes one tile: score[d, w] = direction d . word w, for packed directions and words (rounded rows if
    // `rounded`) of `slots` slots. The last bits of the scores depend on the instruction set. Bit d of the result is
    // set if one of the scores of direction d has a magnitude of at least threshold[d].
    std::uint32_t (*score)(const T* direction, const T* word, std::int64_t slots, const T* threshold, T* score);
    // How many of the n elements of x have a magnitude of at least `threshold`.
    std::int64_t (*count_at_least)(const T* x, std::int64_t n, T threshold);
    // Copies the elements of x whose magnitude is at least `threshold` to `kept`, and the elements of `word` at the
    // same indices to `kept_word`, in their order. Returns how many were copied. `kept` may be x and `kept_word` may be
    // `word`. Up to Tiles::words elements after the last copied one may be overwritten.
    std::int64_t (*keep_at_least)(const T* x, const std::uint32_t* word, std::int64_t n, T threshold, T* kept,
                                  std::uint32_t* kept_word);
    Pack<T, T> pack_directions;
};

// Tiles of rows that are rounded to 16-bit integers. They are faster than those of float. Only instruction sets with
// AVX-512 VNNI have them; in the others `available` is false and the other members are empty.
struct RoundedTiles {
    bool available;
    Tiles<float> tiles;
    std::tuple<Pack<float, float>, Pack<float, bfloat16>, Pack<float, float16>> pack_words;
};

// All innermost loops of one instruction set.
struct Kernels {
    const char* name;  // of the instruction set, as in CMakeLists.txt
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
