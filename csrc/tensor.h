// A torch tensor as the core sees it, read through its Python attributes, so no torch header is needed; and which C++
// type its numbers have.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "shiftbench/number.h"
#include "shiftbench/view.h"

namespace shiftbench {

namespace py = pybind11;

struct Tensor {
    void* data;
    std::vector<std::int64_t> shape, stride;
    std::string dtype;

    explicit Tensor(const py::object& tensor)
        : data(reinterpret_cast<void*>(tensor.attr("data_ptr")().cast<std::uintptr_t>())),
          shape(tensor.attr("shape").cast<py::tuple>().size()),
          stride(shape.size()),
          dtype(py::str(tensor.attr("dtype"))) {
        const py::tuple sizes = tensor.attr("shape"), steps = tensor.attr("stride")();
        for (std::size_t i = 0; i < shape.size(); ++i) {
            shape[i] = sizes[i].cast<std::int64_t>();
            stride[i] = steps[i].cast<std::int64_t>();
        }
    }

    template <class T>
    T* pointer() const {
        return static_cast<T*>(data);
    }
    template <class T>
    Rows<T> rows() const {
        return {pointer<T>(), shape.at(0), shape.at(1), stride.at(0)};
    }
    template <class T>
    Planes<T> planes() const {
        return {pointer<T>(), shape.at(0), shape.at(1), shape.at(2), stride.at(0), stride.at(1)};
    }
};

template <class T>
struct Type {
    using type = T;
};

// Calls f(Type<T>{}) for the C++ type of a floating-point dtype, the interpreter lock released.
template <class F>
auto with_float_type(const std::string& dtype, const F& f) {
    const py::gil_scoped_release release;
    if (dtype == "torch.float32") return f(Type<float>{});
    if (dtype == "torch.float64") return f(Type<double>{});
    if (dtype == "torch.bfloat16") return f(Type<bfloat16>{});
    if (dtype == "torch.float16") return f(Type<float16>{});
    throw std::invalid_argument("_C: no floating-point type " + dtype);
}

// Calls f(Type<T>{}) for float32 or float64, the interpreter lock released.
template <class F>
auto with_wide_type(const std::string& dtype, const F& f) {
    const py::gil_scoped_release release;
    if (dtype == "torch.float32") return f(Type<float>{});
    if (dtype == "torch.float64") return f(Type<double>{});
    throw std::invalid_argument("_C: float32 or float64 is wanted, not " + dtype);
}

// Calls f(Type<E>{}, Type<T>{}) for the type that vocab_topk's embeddings are stored in and the one it computes in, the
// interpreter lock released.
template <class F>
auto with_topk_types(const std::string& embedding, const std::string& value, const F& f) {
    return with_float_type(embedding, [&](auto stored) {
        if constexpr (!std::is_same_v<typename decltype(stored)::type, double>)
            if (value == "torch.float32") return f(stored, Type<float>{});
        return f(stored, Type<double>{});
    });
}

// A tensor that may be missing: None is a null pointer.
struct Optional {
    void* data = nullptr;
    explicit Optional(const py::object& tensor) {
        if (!tensor.is_none()) data = Tensor(tensor).data;
    }
    template <class T>
    T* pointer() const {
        return static_cast<T*>(data);
    }
};

}  // namespace shiftbench
