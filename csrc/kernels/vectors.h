// Loading, storing and summing vectors of one instruction set; scratch memory; and loops over the rows of tiles. For
// the files of csrc/kernels/ only (tile.h, "Linkage").
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#include "tile.h"

namespace {

template <class T>
Vector<T> load(const T* from) {
    Vector<T> x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

template <class T>
void store(T* to, const Vector<T>& x) {
    std::memcpy(to, &x, sizeof x);
}

// The sum of a vector's lanes, added one after another from the first to the last.
template <class T>
T sum_lanes(const Vector<T>& x) {
    T sum = 0;
    for (int i = 0; i < lanes_of<T>; ++i) sum += x[i];
    return sum;
}

// An array of `count` elements, all 0 if `zeroed`, else uninitialised. It is freed at the end of its scope; std::vector
// may not be used here (tile.h, "Linkage"). Throws std::bad_alloc where there is no memory.
template <class T>
class Scratch {
public:
    explicit Scratch(std::int64_t count, bool zeroed = true)
        : data_(static_cast<T*>(zeroed ? std::calloc(static_cast<std::size_t>(count) + 1, sizeof(T))
                                       : std::malloc((static_cast<std::size_t>(count) + 1) * sizeof(T)))) {
        if (!data_) throw std::bad_alloc();
    }
    ~Scratch() { std::free(data_); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    T* get() const { return data_; }

private:
    T* data_;
};

// Divides the rows [0, rows) into tiles and calls f(begin, end) for the rows [begin, end) of each. No tile has more
// than tile_directions rows. The tiles' heights differ by at most one, because a tile of few rows leaves most registers
// unused and is slow.
template <class F>
inline void for_each_tile(std::int64_t rows, const F& f) {
    const std::int64_t tiles = (rows + tile_directions - 1) / tile_directions;
    for (std::int64_t i = 0; i < tiles; ++i) f(rows * i / tiles, rows * (i + 1) / tiles);
}

// A number as a type, by which it is passed to a generic lambda as a compile-time constant.
template <int N>
struct Constant {
    static constexpr int value = N;
};

// Calls f(Constant<rows>{}), so that f knows the number of rows at compile time. `rows` must be between 1 and N; else f
// is not called.
template <int N = tile_directions, class F>
inline void with_constant_rows(std::int64_t rows, const F& f) {
    if (rows == N) return f(Constant<N>{});
    if constexpr (N > 1) with_constant_rows<N - 1>(rows, f);
}

}  // namespace
