// Views of memory that somebody else owns: a pointer, sizes, and strides counted in elements.
#pragma once

#include <cstdint>

#include "formulas.h"

namespace shiftbench {

// A matrix whose rows are contiguous but may lie apart.
template <class T>
struct Rows {
    T* data;
    std::int64_t rows, cols, stride;

    SHIFTBENCH_SHARED T* operator[](std::int64_t row) const { return data + row * stride; }
};

// A stack of such matrices.
template <class T>
struct Planes {
    T* data;
    std::int64_t planes, rows, cols, plane_stride, row_stride;

    SHIFTBENCH_SHARED Rows<T> operator[](std::int64_t plane) const {
        return {data + plane * plane_stride, rows, cols, row_stride};
    }
};

}  // namespace shiftbench
