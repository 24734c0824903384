// The Python module shiftbench._C.cuda, which shiftbench/ops/cuda/ calls. The last two arguments of every function are
// the device and the stream, but not of set_reversed, which only emulated builds have (emulated.h). The caller
// allocates results and scratch memory, because torch's allocator knows which stream uses them. No function waits for
// the GPU.
#include "bindings.h"

#include <pybind11/stl.h>

#include <cstdint>
#include <vector>

#include "bootstrap.h"
#include "importance.h"
#include "stage_arguments.h"
#include "stages.h"
#include "tensor.h"
#include "vocab_topk.h"
#include "word_pairs.h"

namespace shiftbench::cuda {

namespace python {
namespace {

// Makes the GPU of index `device` the calling thread's current one, which it stays, and converts the address of one of
// its streams, as torch gives it.
struct DeviceStream {
    Stream stream;
    DeviceStream(int device, std::uintptr_t stream_) : stream(reinterpret_cast<Stream>(stream_)) { use_device(device); }
};

// The memory of an int64 tensor of counters, which kernels change by atomic operations; null for None.
unsigned long long* counters(const py::object& tensor) {
    return tensor.is_none() ? nullptr : Tensor(tensor).pointer<unsigned long long>();
}

void grad_x_input(const py::object& grad_RPD, const py::object& embedding_PD, const py::object& importance_PR,
                  const py::object& largest_R, const py::object& bad, int device, std::uintptr_t stream) {
    const Tensor grad(grad_RPD), embedding(embedding_PD), importance(importance_PR);
    const ImportanceRecord record{counters(largest_R), counters(bad)};
    with_float_type(grad.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        cuda::grad_x_input(grad.planes<const T>(), embedding.rows<const T>(), importance.rows<accumulator_t<T>>(),
                           record, DeviceStream(device, stream).stream);
    });
}

// recorded: whether grad_x_input has already filled largest_R and bad from the same importances. If not, they are
// filled here; before, every element of largest_R must be 0 and bad must be no_index.
void importance_levels(const py::object& importance_PR, const py::object& level_PR, int levels,
                       const py::object& largest_R, const py::object& bad, bool recorded, int device,
                       std::uintptr_t stream) {
    const Tensor importance(importance_PR), level(level_PR);
    const ImportanceRecord record{counters(largest_R), counters(bad)};
    with_float_type(importance.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        const DeviceStream on(device, stream);
        if (!recorded) cuda::record_importance(importance.rows<const T>(), record, on.stream);
        cuda::importance_levels(importance.rows<const T>(), level.rows<std::uint8_t>(), levels, record, on.stream);
    });
}

void importance_density(const py::object& level_PR, const py::object& ratio_P, const py::object& density_P, int cutoff,
                        double p, const py::object& bad, int device, std::uintptr_t stream) {
    const Tensor level(level_PR), ratio(ratio_P), density(density_P);
    unsigned long long* refused = counters(bad);
    const DeviceStream on(device, stream);
    if (level.dtype == "torch.uint8") {
        with_wide_type(density.dtype, [&](auto type) {
            using Out = typename decltype(type)::type;
            cuda::importance_density(level.rows<const std::uint8_t>(), ratio.pointer<double>(), density.pointer<Out>(),
                                     cutoff, p, refused, on.stream);
        });
        return;
    }
    with_float_type(level.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        cuda::importance_density(level.rows<const T>(), ratio.pointer<double>(), density.pointer<accumulator_t<T>>(),
                                 cutoff, p, refused, on.stream);
    });
}

// tensors: score, word, count, kth_bound and error of Candidates (vocab_topk.h), in this order.
template <class T>
Candidates<T> candidates_of(const std::vector<Tensor>& tensors, int k) {
    return {tensors[0].rows<T>(),    tensors[1].pointer<std::int32_t>(), tensors[2].pointer<std::int32_t>(),
            tensors[3].pointer<T>(), tensors[4].pointer<const T>(),      k};
}

void topk_collect(const py::object& score_CW, std::int64_t first_word, const std::vector<py::object>& candidates, int k,
                  int device, std::uintptr_t stream) {
    const Tensor score(score_CW);
    const std::vector<Tensor> held(candidates.begin(), candidates.end());
    with_wide_type(score.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        cuda::topk_collect<T>(score.rows<const T>(), first_word, candidates_of<T>(held, k),
                              DeviceStream(device, stream).stream);
    });
}

void topk_finish(const py::object& embedding_VD, const py::object& direction_CD,
                 const std::vector<py::object>& candidates, int k, const py::object& value_CK,
                 const py::object& index_CK, int device, std::uintptr_t stream) {
    const Tensor embedding(embedding_VD), direction(direction_CD), value(value_CK), index(index_CK);
    const std::vector<Tensor> held(candidates.begin(), candidates.end());
    with_topk_types(embedding.dtype, value.dtype, [&](auto stored, auto wide) {
        using E = typename decltype(stored)::type;
        using T = typename decltype(wide)::type;
        cuda::topk_finish<T, E>(embedding.rows<const E>(), direction.rows<const T>(), candidates_of<T>(held, k),
                                value.rows<T>(), index.rows<std::int64_t>(), DeviceStream(device, stream).stream);
    });
}

// found: the tensors a, b, cosine and count of FoundPairs (word_pairs.h), in this order.
void cooccurrence_scan(const py::object& score_VV, std::int64_t first_row, std::int64_t first_col,
                       const py::object& unit_VG, const py::object& low_V, const py::object& cutoff_V,
                       const py::object& spelling_V, const std::vector<py::object>& found, int device,
                       std::uintptr_t stream) {
    const Tensor score(score_VV), unit(unit_VG), low(low_V), cutoff(cutoff_V), spelling(spelling_V);
    const std::vector<Tensor> out(found.begin(), found.end());
    with_wide_type(score.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        cuda::cooccurrence_scan<T>(score.rows<const T>(), first_row, first_col, unit.rows<const T>(),
                                   low.pointer<const T>(), cutoff.pointer<const double>(),
                                   spelling.pointer<const std::int64_t>(),
                                   {out[0].pointer<std::int32_t>(), out[1].pointer<std::int32_t>(), out[2].pointer<T>(),
                                    out[3].pointer<unsigned long long>()},
                                   DeviceStream(device, stream).stream);
    });
}

template <class T>
CooccurrenceLists<T> lists_of(const std::vector<Tensor>& tensors) {
    return {tensors[0].shape.at(0) - 1, tensors[0].pointer<const std::int64_t>(),
            tensors[1].pointer<const std::int32_t>(), tensors[2].pointer<const T>()};
}

NeuronSide side_of(const std::vector<Tensor>& tensors) {
    return {tensors[0].rows<const std::int64_t>(), tensors[1].rows<const std::int8_t>()};
}

// lists: the tensors first, other and cosine of CooccurrenceLists. query, key: the tensors word and sign of a
// NeuronSide. count_C: 0 before the call; receives the number of word pairs of each neuron pair. refused: int64 [2], -1
// before the call; receives the lowest flat index of a query word and of a key word that the kernel refuses, and stays
// -1 where it refuses none (first_bad_query and first_bad_key in word_pairs.h).
void count_word_pairs(const std::vector<py::object>& lists, const std::vector<py::object>& query,
                      const std::vector<py::object>& key, const py::object& count_C, const py::object& refused,
                      int device, std::uintptr_t stream) {
    const std::vector<Tensor> neighbours(lists.begin(), lists.end()), queries(query.begin(), query.end()),
        keys(key.begin(), key.end());
    unsigned long long *count = counters(count_C), *bad = counters(refused);
    with_wide_type(neighbours[2].dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        cuda::count_word_pairs<T>(lists_of<T>(neighbours), side_of(queries), side_of(keys), count, bad, bad + 1,
                                  DeviceStream(device, stream).stream);
    });
}

void write_word_pairs(const std::vector<py::object>& lists, const std::vector<py::object>& query,
                      const std::vector<py::object>& key, const py::object& next_C, const py::object& place_N,
                      const py::object& cosine_N, int device, std::uintptr_t stream) {
    const std::vector<Tensor> neighbours(lists.begin(), lists.end()), queries(query.begin(), query.end()),
        keys(key.begin(), key.end());
    const Tensor place(place_N), cosine(cosine_N);
    unsigned long long* next = counters(next_C);
    with_wide_type(neighbours[2].dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        cuda::write_word_pairs<T>(lists_of<T>(neighbours), side_of(queries), side_of(keys), next,
                                  place.pointer<std::int64_t>(), cosine.pointer<T>(),
                                  DeviceStream(device, stream).stream);
    });
}

void bootstrap(const py::object& value_N, const py::object& length_G, std::uint64_t seed, const py::object& mean_SG,
               int device, std::uintptr_t stream) {
    const Tensor value(value_N), length(length_G), mean(mean_SG);
    const py::gil_scoped_release release;
    cuda::bootstrap(value.pointer<const double>(), length.pointer<const std::int64_t>(), seed, mean.rows<double>(),
                    DeviceStream(device, stream).stream);
}

void norm_derivative(const py::object& derivative, const py::object& hat, const py::object& rho, const py::object& gain,
                     const py::object& position, const py::object& out, bool centred, bool cotangent, int device,
                     std::uintptr_t stream) {
    with_norm_derivative(derivative, hat, rho, gain, position, out, centred, cotangent,
                         [&](const auto& rows) { cuda::norm_derivative(rows, DeviceStream(device, stream).stream); });
}

void rotary_derivative(const py::object& x, const py::object& cosine, const py::object& sine,
                       const py::object& position, bool inverse, int device, std::uintptr_t stream) {
    with_rotary_derivative(x, cosine, sine, position, inverse, [&](const auto& rows) {
        cuda::rotary_derivative(rows, DeviceStream(device, stream).stream);
    });
}

void activation_derivative(const py::object& up, const py::object& gate, const py::object& up_slope,
                           const py::object& gate_slope, const py::object& position, bool cotangent, int device,
                           std::uintptr_t stream) {
    with_activation_derivative(up, gate, up_slope, gate_slope, position, cotangent, [&](const auto& rows) {
        cuda::activation_derivative(rows, DeviceStream(device, stream).stream);
    });
}

}  // namespace
}  // namespace python

void bind(py::module_& m) {
    m.attr("overflowed") = overflowed;
    m.attr("words_per_check") = words_per_check;
    m.attr("max_candidates") = max_candidates;
    m.attr("max_key_words") = max_key_words;
#ifdef SHIFTBENCH_EMULATED
    m.def("set_reversed", [](bool reversed) { Block::reversed = reversed; });
#endif
    m.def("grad_x_input", &python::grad_x_input);
    m.def("importance_levels", &python::importance_levels);
    m.def("importance_density", &python::importance_density);
    m.def("topk_collect", &python::topk_collect);
    m.def("topk_finish", &python::topk_finish);
    m.def("cooccurrence_scan", &python::cooccurrence_scan);
    m.def("count_word_pairs", &python::count_word_pairs);
    m.def("write_word_pairs", &python::write_word_pairs);
    m.def("bootstrap", &python::bootstrap);
    m.def("norm_derivative", &python::norm_derivative);
    m.def("rotary_derivative", &python::rotary_derivative);
    m.def("activation_derivative", &python::activation_derivative);
}

}  // namespace shiftbench::cuda
