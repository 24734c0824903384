// The stages of derivatives on a GPU (shiftbench/stages.h). Attention and merged projections are missing: on a GPU the
// engine computes them by torch's batched matrix products. All pointers are to GPU memory.
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
