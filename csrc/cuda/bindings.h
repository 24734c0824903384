// Declares the function that fills the submodule _C.cuda with its functions and constants.
#pragma once

#include <pybind11/pybind11.h>

namespace shiftbench::cuda {

void bind(pybind11::module_& m);

}  // namespace shiftbench::cuda
