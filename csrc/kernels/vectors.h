// Vectors of one instruction set in memory, and memory for them. As tile.h, for the kernels only.
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

template <class T>
T total(const Vector<T>& x) {
    T sum = 0;
    for (int i = 0; i < lanes_of<T>; ++i) sum += x[i];
    return sum;
}

// No std::vector here: its members would be linked once for all instruction sets, perhaps this one's.
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

// f(begin, end) for tiles of rows, none of more than fit into registers and none much smaller than the others.
template <class F>
inline void each_tile(std::int64_t rows, const F& f) {
    const std::int64_t tiles = (rows + tile_directions - 1) / tile_directions;
    for (std::int64_t i = 0; i < tiles; ++i) f(rows * i / tiles, rows * (i + 1) / tiles);
}

template <int N>
struct Count {
    static constexpr int value = N;
};

// f(Count<rows>{}) for a tile's rows, which are N at most.
template <int N = tile_directions, class F>
inline void with_rows(std::int64_t rows, const F& f) {
    if (rows == N) return f(Count<N>{});
    if constexpr (N > 1) with_rows<N - 1>(rows, f);
}

}  // namespace
