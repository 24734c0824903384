// Defines the functions of the submodule _C.cuda.
#pragma once

#include <pybind11/pybind11.h>

namespace shiftbench::cuda {

void bind(pybind11::module_& m);

}  // namespace shiftbench::cuda
