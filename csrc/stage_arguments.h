// Converts Python's arguments to those of the engine's stages (shiftbench/stages.h), for the three stages that the CPU
// and a GPU both have. Each function calls f once, with the struct of the stage's arguments and with Python's
// interpreter lock released. Tensors must be contiguous and of one dtype, torch.float32 or torch.float64, but for
// `position`, which is int64. The engine, which is the only caller, allocates them so; shapes are asserted in debug
// builds only. A norm's derivative [rows, width] is one of a single group. gate and gate_slope may be None.
#pragma once

#include <cassert>

#include "shiftbench/stages.h"
#include "tensor.h"

namespace shiftbench {

template <class F>
void with_norm_derivative(const py::object& derivative, const py::object& hat, const py::object& rho,
                          const py::object& gain, const py::object& position, const py::object& out, bool centred,
                          bool cotangent, const F& f) {
    const Tensor derivative_(derivative), hat_(hat), rho_(rho), gain_(gain), position_(position), out_(out);
    assert(out_.has_shape(derivative_.shape) && gain_.has_shape({derivative_.shape.back()}));
    assert(position_.has_shape({derivative_.shape.at(0)}));
    const std::int64_t width = derivative_.shape.back(),
                       groups = derivative_.shape.size() == 3 ? derivative_.shape[1] : 1;
    with_wide_type(derivative_.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        f(cpu::NormDerivative<T>{derivative_.pointer<T>(), hat_.pointer<T>(), rho_.pointer<T>(), gain_.pointer<T>(),
                                 position_.pointer<std::int64_t>(), out_.pointer<T>(), derivative_.shape[0], groups,
                                 width, centred, cotangent});
    });
}

template <class F>
void with_rotary_derivative(const py::object& x, const py::object& cosine, const py::object& sine,
                            const py::object& position, bool inverse, const F& f) {
    const Tensor x_(x), cosine_(cosine), sine_(sine), position_(position);
    assert(sine_.has_shape(cosine_.shape) && cosine_.shape.back() == x_.shape.back());
    assert(position_.has_shape({x_.shape.at(0)}));
    with_wide_type(x_.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        f(cpu::RotaryDerivative<T>{x_.pointer<T>(), cosine_.pointer<T>(), sine_.pointer<T>(),
                                   position_.pointer<std::int64_t>(), x_.shape[0], x_.shape[1], x_.shape[2], inverse});
    });
}

template <class F>
void with_activation_derivative(const py::object& up, const py::object& gate, const py::object& up_slope,
                                const py::object& gate_slope, const py::object& position, bool cotangent, const F& f) {
    const Tensor up_(up), up_slope_(up_slope), position_(position);
    const OptionalTensor gate_(gate), gate_slope_(gate_slope);
    assert(up_slope_.shape.back() == up_.shape.at(1) && position_.has_shape({up_.shape.at(0)}));
    with_wide_type(up_.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        f(cpu::ActivationDerivative<T>{up_.pointer<T>(), gate_.pointer<T>(), up_slope_.pointer<T>(),
                                       gate_slope_.pointer<T>(), position_.pointer<std::int64_t>(), up_.shape[0],
                                       up_.shape[1], cotangent});
    });
}

}  // namespace shiftbench
