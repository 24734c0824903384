// The engine's stages from Python's arguments, for the CPU and for a GPU: f is called with what the stage reads, the
// interpreter lock released.
#pragma once

#include "shiftbench/stages.h"
#include "tensor.h"

namespace shiftbench {

template <class F>
void with_norm_rows(const py::object& d, const py::object& hat, const py::object& rho, const py::object& gain,
                    const py::object& position, const py::object& out, bool centred, bool cotangent, const F& f) {
    const Tensor d_(d), hat_(hat), rho_(rho), gain_(gain), position_(position), out_(out);
    const std::int64_t width = d_.shape.back(), groups = d_.shape.size() == 3 ? d_.shape[1] : 1;
    with_wide_type(d_.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        f(cpu::NormRows<T>{d_.pointer<T>(), hat_.pointer<T>(), rho_.pointer<T>(), gain_.pointer<T>(),
                           position_.pointer<std::int64_t>(), out_.pointer<T>(), d_.shape[0], groups, width, centred,
                           cotangent});
    });
}

template <class F>
void with_rotate_rows(const py::object& x, const py::object& cosine, const py::object& sine, const py::object& position,
                      bool back, const F& f) {
    const Tensor x_(x), cosine_(cosine), sine_(sine), position_(position);
    with_wide_type(x_.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        f(cpu::RotateRows<T>{x_.pointer<T>(), cosine_.pointer<T>(), sine_.pointer<T>(),
                             position_.pointer<std::int64_t>(), x_.shape[0], x_.shape[1], x_.shape[2], back});
    });
}

template <class F>
void with_gate_rows(const py::object& up, const py::object& gate, const py::object& up_slope,
                    const py::object& gate_slope, const py::object& position, bool cotangent, const F& f) {
    const Tensor up_(up), up_slope_(up_slope), position_(position);
    const Optional gate_(gate), gate_slope_(gate_slope);
    with_wide_type(up_.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        f(cpu::GateRows<T>{up_.pointer<T>(), gate_.pointer<T>(), up_slope_.pointer<T>(), gate_slope_.pointer<T>(),
                           position_.pointer<std::int64_t>(), up_.shape[0], up_.shape[1], cotangent});
    });
}

}  // namespace shiftbench
