// Views of memory that the caller owns: a pointer, sizes, and strides counted in elements.
#pragma once

#include <cstdint>

#include "formulas.h"

namespace shiftbench {

// A matrix [rows, cols]. Each row is contiguous; row i begins at data + i * stride.
template <class T>
struct Rows {
    T* data;
    std::int64_t rows, cols, stride;

    SHIFTBENCH_SHARED T* operator[](std::int64_t row) const { return data + row * stride; }
};

// A stack of matrices [planes, rows, cols]. Each row is contiguous; both strides may be larger than the sizes need.
template <class T>
struct Planes {
    T* data;
    std::int64_t planes, rows, cols, plane_stride, row_stride;

    SHIFTBENCH_SHARED Rows<T> operator[](std::int64_t plane) const {
        return {data + plane * plane_stride, rows, cols, row_stride};
    }
};

}  // namespace shiftbench
