// shiftbench/stages.h on a GPU, but for attention, which is matrix products.
#pragma once

#include "grid.h"
#include "shiftbench/stages.h"

namespace shiftbench::cuda {

template <class T>
void norm_rows(const cpu::NormRows<T>& rows, Stream stream);
template <class T>
void rotate_rows(const cpu::RotateRows<T>& rows, Stream stream);
template <class T>
void gate_rows(const cpu::GateRows<T>& rows, Stream stream);

}  // namespace shiftbench::cuda
