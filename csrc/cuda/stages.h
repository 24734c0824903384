// The stages of derivatives on a GPU (shiftbench/stages.h). Attention and merged projections are missing: on a GPU the
// engine computes them by torch's batched matrix products. All pointers are to GPU memory.
#pragma once

#include "grid.h"
#include "shiftbench/stages.h"

namespace shiftbench::cuda {

template <class T>
void norm_derivative(const cpu::NormDerivative<T>& rows, Stream stream);
template <class T>
void rotary_derivative(const cpu::RotaryDerivative<T>& rows, Stream stream);
template <class T>
void activation_derivative(const cpu::ActivationDerivative<T>& rows, Stream stream);

}  // namespace shiftbench::cuda
