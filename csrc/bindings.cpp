// The Python module shiftbench._C. Each function here takes the addresses and shapes of its tensors, chooses the C++
// type of their elements, and calls the core, mostly with Python's interpreter lock released. The functions in
// csrc/shiftbench/ share their work among threads themselves; for the engine's stages the functions here do, except for
// norm_derivative, rotary_derivative and activation_derivative, which compute on the calling thread. Arguments are not
// checked, but for some dtypes: the callers are shiftbench/ops, which checks them, and the engine, which computes them.
// Debug builds assert many of the shapes.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "shiftbench/bootstrap.h"
#include "shiftbench/importance.h"
#include "shiftbench/instructions.h"
#include "shiftbench/number.h"
#include "shiftbench/parallel.h"
#include "shiftbench/view.h"
#include "shiftbench/vocab_topk.h"
#include "shiftbench/word_pairs.h"
#include "stage_arguments.h"
#include "tensor.h"

#ifdef SHIFTBENCH_CUDA
#include "cuda/bindings.h"
#endif

namespace py = pybind11;
using namespace shiftbench;

namespace {

void grad_x_input(const py::object& grad_RPD, const py::object& embedding_PD, const py::object& importance_PR) {
    const Tensor grad(grad_RPD), embedding(embedding_PD), importance(importance_PR);
    assert(embedding.has_shape({grad.shape.at(1), grad.shape.at(2)}));
    assert(importance.has_shape({grad.shape.at(1), grad.shape.at(0)}));
    with_float_type(grad.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        cpu::grad_x_input(grad.planes<const T>(), embedding.rows<const T>(), importance.rows<accumulator_t<T>>());
    });
}

std::int64_t importance_levels(const py::object& importance_PR, const py::object& level_PR, int levels) {
    const Tensor importance(importance_PR), level(level_PR);
    assert(level.has_shape(importance.shape));
    return with_float_type(importance.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        return cpu::importance_levels(importance.rows<const T>(), level.rows<std::uint8_t>(), levels);
    });
}

std::int64_t importance_density(const py::object& level_PR, const py::object& density_P, int cutoff, double p) {
    const Tensor level(level_PR), density(density_P);
    assert(density.has_shape({level.shape.at(0)}));
    if (level.dtype == "torch.uint8") {
        const py::gil_scoped_release release;
        return cpu::importance_density(level.rows<const std::uint8_t>(), density.pointer<float>(), cutoff, p);
    }
    return with_float_type(level.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        return cpu::importance_density(level.rows<const T>(), density.pointer<accumulator_t<T>>(), cutoff, p);
    });
}

std::int64_t importance_density_from_grad(const py::object& grad_RPD, const py::object& embedding_PD,
                                          const py::object& importance_PR, const py::object& level_PR,
                                          const py::object& density_P, int levels, int cutoff, double p) {
    const Tensor grad(grad_RPD), embedding(embedding_PD), importance(importance_PR), level(level_PR),
        density(density_P);
    return with_float_type(grad.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        using A = accumulator_t<T>;
        return cpu::importance_density_from_grad(grad.planes<const T>(), embedding.rows<const T>(),
                                                 importance.rows<A>(), level.rows<std::uint8_t>(), density.pointer<A>(),
                                                 levels, cutoff, p);
    });
}

// Returns three indices (TopkRefusal): the first row of embedding_VD whose norm is not finite, the first row of
// direction_CD whose norm is not finite, and the first direction whose scores may overflow. At most one of them is not
// -1; all are -1 if nothing is refused.
auto vocab_topk(const py::object& embedding_VD, const py::object& direction_CD, const py::object& value_CK,
                const py::object& index_CK) {
    const Tensor embedding(embedding_VD), direction(direction_CD), value(value_CK), index(index_CK);
    assert(embedding.shape.at(1) == direction.shape.at(1) && value.shape.at(0) == direction.shape.at(0));
    assert(index.has_shape(value.shape));
    const auto refusal = with_topk_types(embedding.dtype, value.dtype, [&](auto stored, auto wide) {
        using E = typename decltype(stored)::type;
        using T = typename decltype(wide)::type;
        return cpu::vocab_topk<T>(embedding.rows<const E>(), direction.rows<const T>(), value.rows<T>(),
                                  index.rows<std::int64_t>());
    });
    return std::make_tuple(refusal.embedding, refusal.direction, refusal.overflow);
}

// The functions of the instruction set in use that compute stages in T, the element type of the given arguments.
template <template <class> class R, class T>
const cpu::Stages<T>& stages_for(const R<T>&) {
    return std::get<cpu::Stages<T>>(cpu::kernels().stages);
}

void norm_derivative(const py::object& derivative, const py::object& hat, const py::object& rho, const py::object& gain,
                     const py::object& position, const py::object& out, bool centred, bool cotangent) {
    with_norm_derivative(derivative, hat, rho, gain, position, out, centred, cotangent,
                         [](const auto& rows) { stages_for(rows).norm_derivative(rows); });
}

void rotary_derivative(const py::object& x, const py::object& cosine, const py::object& sine,
                       const py::object& position, bool inverse) {
    with_rotary_derivative(x, cosine, sine, position, inverse,
                           [](const auto& rows) { stages_for(rows).rotary_derivative(rows); });
}

void activation_derivative(const py::object& up, const py::object& gate, const py::object& up_slope,
                           const py::object& gate_slope, const py::object& position, bool cotangent) {
    with_activation_derivative(up, gate, up_slope, gate_slope, position, cotangent,
                               [](const auto& rows) { stages_for(rows).activation_derivative(rows); });
}

// Blocks of columns_per_block columns of `out` are shared among at most `threads` threads.
void merged_projection_derivative(const py::object& x, const py::object& gate, const py::object& up,
                                  const py::object& gate_slope, const py::object& up_slope, const py::object& position,
                                  const py::object& out, bool cotangent, int threads) {
    const Tensor x_(x), gate_(gate), up_(up), gate_slope_(gate_slope), up_slope_(up_slope), position_(position),
        out_(out);
    assert(up_.has_shape(gate_.shape) && up_slope_.has_shape(gate_slope_.shape));
    assert(gate_slope_.shape.at(1) == gate_.shape.at(0) && position_.has_shape({x_.shape.at(0)}));
    assert(x_.shape.at(1) == gate_.shape.at(cotangent ? 0 : 1));
    assert(out_.has_shape({x_.shape.at(0), gate_.shape.at(cotangent ? 1 : 0)}));
    with_wide_type(x_.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        const std::int64_t columns = out_.shape[1],
                           blocks = (columns + cpu::columns_per_block - 1) / cpu::columns_per_block;
        parallel_for(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
            const cpu::MergedProjectionDerivative<T> rows{x_.pointer<T>(),
                                                          gate_.pointer<T>(),
                                                          up_.pointer<T>(),
                                                          gate_slope_.pointer<T>(),
                                                          up_slope_.pointer<T>(),
                                                          position_.pointer<const std::int64_t>(),
                                                          out_.pointer<T>(),
                                                          x_.shape[0],
                                                          gate_slope_.shape[0],
                                                          gate_.shape[1],
                                                          gate_.shape[0],
                                                          begin * cpu::columns_per_block,
                                                          std::min(columns, end * cpu::columns_per_block),
                                                          cotangent};
            stages_for(rows).merged_projection_derivative(rows);
        }, threads);
    });
}

// kept: the tensors query, key, value, mixed, probability and slope of KeptAttentionView, in this order. rows: the
// matrices query, key, value and mixed of AttentionDerivative, in this order. work_items: three tensors, which say
// where the rows of queries, of keys and values, and of mixed lie; each is int64 [3, number of work items] and holds
// starts, stops and offsets (WorkItems). Work items are shared among at most `threads` threads.
void attention_derivative(const std::vector<py::object>& kept, double scale, const std::vector<py::object>& rows,
                          const std::vector<py::object>& work_items, bool cotangent, int threads) {
    const std::vector<Tensor> kept_(kept.begin(), kept.end()), rows_(rows.begin(), rows.end()),
        work_items_(work_items.begin(), work_items.end());
    const std::int64_t count = work_items_[0].shape.at(1);
    assert(kept_.size() == 6 && rows_.size() == 4 && work_items_.size() == 3);
    for ([[maybe_unused]] const Tensor& items : work_items_) assert(items.has_shape({3, count}));
    const auto items = [&](std::size_t i, std::int64_t begin) {
        const auto* at = work_items_[i].pointer<const std::int64_t>() + begin;
        return cpu::WorkItems{at, at + count, at + 2 * count};
    };
    const auto& shape = kept_[0].shape;  // K, G, T, E
    with_wide_type(kept_[0].dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end) {
            std::get<cpu::Stages<T>>(cpu::kernels().stages)
                .attention_derivative({{kept_[0].pointer<T>(), kept_[1].pointer<T>(), kept_[2].pointer<T>(),
                                        kept_[3].pointer<T>(), kept_[4].pointer<T>(), kept_[5].pointer<T>(), shape[0],
                                        shape[1], shape[2], shape[3], static_cast<T>(scale)},
                                       rows_[0].pointer<T>(),
                                       rows_[1].pointer<T>(),
                                       rows_[2].pointer<T>(),
                                       rows_[3].pointer<T>(),
                                       items(0, begin),
                                       items(1, begin),
                                       items(2, begin),
                                       end - begin,
                                       cotangent});
        }, threads);
    });
}

// at_2N: int64; its first row holds, for each row of query_NHE, the first position of the KV cache that it attends to,
// and its second row holds one more than the last (CachedAttention). cap: 0 for none. Rows are shared among at most
// thread_count threads.
void cached_attention(const py::object& query_NHE, const py::object& key_KTE, const py::object& value_KTE,
                      const py::object& at_2N, const py::object& out_NHE, double scale, double cap) {
    const Tensor query(query_NHE), key(key_KTE), value(value_KTE), at(at_2N), out(out_NHE);
    assert(out.has_shape(query.shape) && value.has_shape(key.shape) && at.has_shape({2, query.shape.at(0)}));
    assert(key.shape.at(2) == query.shape.at(2) && query.shape.at(1) % key.shape.at(0) == 0);
    const std::int64_t rows = query.shape[0], heads = query.shape[1], width = query.shape[2], key_heads = key.shape[0],
                       capacity = key.shape[1];
    const auto *first = at.pointer<const std::int64_t>(), *last = first + rows;
    std::int64_t max_keys = 0;  // the largest number of keys that a row attends to
    for (std::int64_t n = 0; n < rows; ++n) max_keys = std::max(max_keys, last[n] - first[n]);
    with_wide_type(query.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        const auto& stages = std::get<cpu::Stages<T>>(cpu::kernels().stages);
        parallel_for(rows, grain_of(heads * max_keys * width), [&](std::int64_t begin, std::int64_t end) {
            std::vector<T> scores(static_cast<std::size_t>(max_keys));
            const std::int64_t own = begin * heads * width;
            stages.cached_attention({query.pointer<T>() + own, key.pointer<T>(), value.pointer<T>(), first + begin,
                                     last + begin, out.pointer<T>() + own, scores.data(), end - begin, key_heads,
                                     heads / key_heads, capacity, width, static_cast<T>(scale), static_cast<T>(cap)});
        });
    });
}

// The columns of `out`, one for each row of `weight`, are shared among at most thread_count threads.
void small_batch_linear(const py::object& x, const py::object& weight, const py::object& out) {
    const Tensor x_(x), weight_(weight), out_(out);
    assert(weight_.shape.at(1) == x_.shape.at(1));
    assert(out_.has_shape({x_.shape.at(0), weight_.shape.at(0)}));
    with_wide_type(x_.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        const std::int64_t rows = x_.shape[0], depth = x_.shape[1], outputs = weight_.shape[0];
        parallel_for(outputs, grain_of(rows * depth), [&](std::int64_t begin, std::int64_t end) {
            const cpu::SmallBatchLinear<T> part{
                x_.pointer<T>(), weight_.pointer<T>(), out_.pointer<T>(), rows, depth, outputs, begin, end};
            stages_for(part).small_batch_linear(part);
        });
    });
}

// x, hat and out: any number of dimensions, the last of which is normalised; rho: one number for each vector along the
// last dimension, which is a row here. bias may be None. Rows are shared among at most `threads` threads.
void norm_forward(const py::object& x, const py::object& gain, const py::object& bias, const py::object& hat,
                  const py::object& rho, const py::object& out, double eps, bool centred, int threads) {
    const Tensor x_(x), gain_(gain), hat_(hat), rho_(rho), out_(out);
    const OptionalTensor bias_(bias);
    assert(hat_.has_shape(x_.shape) && out_.has_shape(x_.shape) && x_.shape.back() == gain_.shape.at(0));
    const std::int64_t width = gain_.shape[0];
    std::int64_t rows = 1;
    for (const std::int64_t size : rho_.shape) rows *= size;
    with_wide_type(x_.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        parallel_for(rows, grain_of(width), [&](std::int64_t begin, std::int64_t end) {
            const std::int64_t own = begin * width;
            const cpu::NormForward<T> part{x_.pointer<T>() + own,
                                           gain_.pointer<T>(),
                                           bias_.pointer<T>(),
                                           hat_.pointer<T>() + own,
                                           rho_.pointer<T>() + begin,
                                           out_.pointer<T>() + own,
                                           end - begin,
                                           width,
                                           static_cast<T>(eps),
                                           centred};
            stages_for(part).norm_forward(part);
        }, threads);
    });
}

// x: [rows, heads * width]; out: [heads, rows, width]; cosine and sine: [rows, width], or both None where heads are not
// rotated. Rows are shared among at most `threads` threads.
void split_heads(const py::object& x, const py::object& cosine, const py::object& sine, const py::object& out,
                 int threads) {
    const Tensor x_(x), out_(out);
    assert(x_.has_shape({out_.shape.at(1), out_.shape.at(0) * out_.shape.at(2)}));
    const OptionalTensor cosine_(cosine), sine_(sine);
    with_wide_type(x_.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        const std::int64_t heads = out_.shape[0], rows = out_.shape[1], width = out_.shape[2];
        parallel_for(rows, grain_of(heads * width), [&](std::int64_t begin, std::int64_t end) {
            const cpu::SplitHeads<T> part{x_.pointer<T>(),
                                          cosine_.pointer<T>(),
                                          sine_.pointer<T>(),
                                          out_.pointer<T>(),
                                          rows,
                                          heads,
                                          width,
                                          begin,
                                          end};
            stages_for(part).split_heads(part);
        }, threads);
    });
}

// query, mixed: [K, G, T, E]; key, value: [K, T, E]; probability, slope: [K, G, T, T]. window and cap: 0 for none;
// slope is not written, and may be None, if cap is 0. Work items (CausalAttentionForward) are shared among at most
// `threads` threads.
void causal_attention_forward(const py::object& query, const py::object& key, const py::object& value,
                              const py::object& probability, const py::object& slope, const py::object& mixed,
                              std::int64_t window, double scale, double cap, int threads) {
    const Tensor query_(query), key_(key), value_(value), probability_(probability), mixed_(mixed);
    const OptionalTensor slope_(slope);
    assert(mixed_.has_shape(query_.shape) && value_.has_shape(key_.shape));
    assert(key_.has_shape({query_.shape.at(0), query_.shape.at(2), query_.shape.at(3)}));
    assert(probability_.has_shape({query_.shape.at(0), query_.shape.at(1), query_.shape.at(2), query_.shape.at(2)}));
    const std::int64_t group = query_.shape[1], tokens = query_.shape[2], width = query_.shape[3];
    const std::int64_t blocks = (tokens + cpu::queries_per_work_item - 1) / cpu::queries_per_work_item;
    with_wide_type(query_.dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        parallel_for(query_.shape[0] * group * blocks, 1, [&](std::int64_t begin, std::int64_t end) {
            const cpu::CausalAttentionForward<T> part{query_.pointer<T>(),
                                                      key_.pointer<T>(),
                                                      value_.pointer<T>(),
                                                      probability_.pointer<T>(),
                                                      slope_.pointer<T>(),
                                                      mixed_.pointer<T>(),
                                                      group,
                                                      tokens,
                                                      width,
                                                      window,
                                                      begin,
                                                      end,
                                                      static_cast<T>(scale),
                                                      static_cast<T>(cap)};
            stages_for(part).causal_attention_forward(part);
        }, threads);
    });
}

// Defines the classes Cooccurrence and WordPairs for one element type T. Their objects keep views of some of the
// tensors that their constructors get. keep_alive makes those tensors live as long as the object: in keep_alive<1, n>,
// 1 is the object and n - 1 the number of the argument, counted from 1. A WordPairs keeps only query_CK and key_CK.
template <class T>
void bind_word_pairs(py::module_& m, const char* cooccurrence_name, const char* word_pairs_name) {
    using Cooccurrence = cpu::Cooccurrence<T>;
    const auto cooccurrence = [](const py::object& unit_VG, const py::object& cutoff_V, const py::object& spelling_V,
                                 double error) {
        return Cooccurrence(Tensor(unit_VG).rows<const T>(), Tensor(cutoff_V).pointer<const double>(),
                            Tensor(spelling_V).pointer<const std::int64_t>(), error);
    };
    const auto scan = [](Cooccurrence& words, const py::object& score_VV, std::int64_t first_row,
                         std::int64_t first_col) {
        const Tensor score(score_VV);
        const py::gil_scoped_release release;
        words.scan(score.rows<const T>(), first_row, first_col);
    };
    const auto write = [](const Cooccurrence& words, const py::object& first, const py::object& other,
                          const py::object& cosine) {
        words.write(Tensor(first).pointer<std::int64_t>(), Tensor(other).pointer<std::int32_t>(),
                    Tensor(cosine).pointer<T>());
    };
    py::class_<Cooccurrence>(m, cooccurrence_name)
        .def(py::init(cooccurrence), py::keep_alive<1, 2>(), py::keep_alive<1, 3>(), py::keep_alive<1, 4>())
        .def("scan", scan)
        .def("size", &Cooccurrence::size)
        .def("write", write);

    using WordPairs = cpu::WordPairs<T>;
    const auto word_pairs = [](const py::object& first, const py::object& other, const py::object& cosine,
                               const py::object& query_CK, const py::object& query_sign_CK, const py::object& key_CK,
                               const py::object& key_sign_CK) {
        const Tensor starts(first), others(other), cosines(cosine), query(query_CK), query_sign(query_sign_CK),
            key(key_CK), key_sign(key_sign_CK);
        const py::gil_scoped_release release;
        const CooccurrenceLists<T> lists{starts.shape.at(0) - 1, starts.pointer<const std::int64_t>(),
                                         others.pointer<const std::int32_t>(), cosines.pointer<const T>()};
        return std::make_unique<WordPairs>(
            lists, NeuronSide{query.rows<const std::int64_t>(), query_sign.rows<const std::int8_t>()},
            NeuronSide{key.rows<const std::int64_t>(), key_sign.rows<const std::int8_t>()});
    };
    const auto write_pairs = [](const WordPairs& pairs, const py::object& neuron, const py::object& query,
                                const py::object& key, const py::object& cosine) {
        pairs.write(Tensor(neuron).pointer<std::int64_t>(), Tensor(query).pointer<std::int64_t>(),
                    Tensor(key).pointer<std::int64_t>(), Tensor(cosine).pointer<T>());
    };
    py::class_<WordPairs>(m, word_pairs_name)
        .def(py::init(word_pairs), py::keep_alive<1, 5>(), py::keep_alive<1, 7>())
        .def("first_bad_query", &WordPairs::first_bad_query)
        .def("first_bad_key", &WordPairs::first_bad_key)
        .def("size", &WordPairs::size)
        .def("write", write_pairs);
}

void bootstrap(const py::object& value_N, const std::vector<std::int64_t>& length_G, std::uint64_t seed,
               const py::object& mean_SG) {
    const Tensor value(value_N), mean(mean_SG);
    const py::gil_scoped_release release;
    cpu::bootstrap(value.pointer<const double>(), length_G, seed, mean.rows<double>());
}

}  // namespace

PYBIND11_MODULE(_C, m) {
    m.doc() =
        "The compiled core of shiftbench. Call it through shiftbench.ops, which checks arguments and documents "
        "functions.";
#ifdef SHIFTBENCH_CUDA
    py::module_ cuda = m.def_submodule(
        "cuda", "The core on a GPU. The last two arguments of each function are the device and the stream.");
    cuda::bind(cuda);
#endif
#if defined(SHIFTBENCH_CUDA) && !defined(SHIFTBENCH_EMULATED)
    m.attr("has_cuda") = true;
#else
    m.attr("has_cuda") = false;
#endif
    m.def("set_threads", [](int count) { thread_count = count; });
    m.def("get_threads", [] { return thread_count.load(); });
    m.def("instructions", [] {
        std::vector<std::string> names;
        for (const auto* kernels : cpu::instructions()) names.emplace_back(kernels->name);
        return names;
    });
    m.def("is_intel", &cpu::is_intel);
    m.def("get_instructions", [] { return cpu::kernels().name; });
    m.def("set_instructions", &cpu::set_instructions);
    m.def("grad_x_input", &grad_x_input);
    m.def("importance_levels", &importance_levels);
    m.def("importance_density", &importance_density);
    m.def("importance_density_from_grad", &importance_density_from_grad);
    m.def("vocab_topk", &vocab_topk);
    m.def("norm_derivative", &norm_derivative);
    m.def("rotary_derivative", &rotary_derivative);
    m.def("activation_derivative", &activation_derivative);
    m.def("merged_projection_derivative", &merged_projection_derivative);
    m.def("small_batch_linear", &small_batch_linear);
    m.def("attention_derivative", &attention_derivative);
    m.def("cached_attention", &cached_attention);
    m.def("norm_forward", &norm_forward);
    m.def("split_heads", &split_heads);
    m.def("causal_attention_forward", &causal_attention_forward);
    bind_word_pairs<float>(m, "Cooccurrence32", "WordPairs32");
    bind_word_pairs<double>(m, "Cooccurrence64", "WordPairs64");
    m.def("bootstrap", &bootstrap);
}
