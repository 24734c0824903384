// The stages of derivatives that have kernels for a GPU; shiftbench/stages.h states arguments and formulas. On a GPU
// the engine computes all other stages by torch. All pointers are to GPU memory.
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
