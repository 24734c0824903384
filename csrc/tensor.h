// A torch tensor as the core sees it, and the choice of the C++ type of its elements. The tensor's address, shape,
// strides and dtype are read from its Python attributes. So the core includes no torch header: it builds without torch,
// and a build is not tied to a version of torch.
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

// The address, shape, strides and dtype of a Python tensor. Does not own the memory; valid as long as the Python tensor
// lives.
struct Tensor {
    void* data;
    std::vector<std::int64_t> shape, stride;  // strides in elements
    std::string dtype;                        // as Python prints it: "torch.float32"

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
    bool has_shape(const std::vector<std::int64_t>& expected) const { return shape == expected; }

    // The tensor as a matrix (rows), for which it must have 2 dimensions, or as a stack of matrices (planes), for which
    // it must have 3. The last dimension must be contiguous.
    template <class T>
    Rows<T> rows() const {
        return {pointer<T>(), shape.at(0), shape.at(1), stride.at(0)};
    }
    template <class T>
    Planes<T> planes() const {
        return {pointer<T>(), shape.at(0), shape.at(1), shape.at(2), stride.at(0), stride.at(1)};
    }
};

// A C++ type T as a value, by which it is passed to a generic lambda.
template <class T>
struct Type {
    using type = T;
};

// Calls f(Type<T>{}) for the C++ type T of a floating-point dtype, with Python's interpreter lock released, and returns
// what f returns. dtype: as Python prints it, such as "torch.float32". Throws std::invalid_argument for any other
// dtype.
template <class F>
auto with_float_type(const std::string& dtype, const F& f) {
    const py::gil_scoped_release release;
    if (dtype == "torch.float32") return f(Type<float>{});
    if (dtype == "torch.float64") return f(Type<double>{});
    if (dtype == "torch.bfloat16") return f(Type<bfloat16>{});
    if (dtype == "torch.float16") return f(Type<float16>{});
    throw std::invalid_argument("_C: the dtype must be torch.float32, float64, bfloat16 or float16, got " + dtype);
}

// As with_float_type, but for the two dtypes that the core computes in, torch.float32 and torch.float64; throws
// std::invalid_argument for any other dtype.
template <class F>
auto with_wide_type(const std::string& dtype, const F& f) {
    const py::gil_scoped_release release;
    if (dtype == "torch.float32") return f(Type<float>{});
    if (dtype == "torch.float64") return f(Type<double>{});
    throw std::invalid_argument("_C: the dtype must be torch.float32 or float64, got " + dtype);
}

// Calls f(Type<E>{}, Type<T>{}) for vocab_topk, with Python's interpreter lock released, and returns what f returns. E
// is the type in which embeddings are stored (with_float_type). T is the type of the scores: float where `value` is
// torch.float32 and the embeddings are not double, else double; no dtype of `value` is refused.
template <class F>
auto with_topk_types(const std::string& embedding, const std::string& value, const F& f) {
    return with_float_type(embedding, [&](auto stored) {
        if constexpr (!std::is_same_v<typename decltype(stored)::type, double>)
            if (value == "torch.float32") return f(stored, Type<float>{});
        return f(stored, Type<double>{});
    });
}

// A tensor that may be None, which becomes a null pointer.
struct OptionalTensor {
    void* data = nullptr;
    explicit OptionalTensor(const py::object& tensor) {
        if (!tensor.is_none()) data = Tensor(tensor).data;
    }
    template <class T>
    T* pointer() const {
        return static_cast<T*>(data);
    }
};

}  // namespace shiftbench
