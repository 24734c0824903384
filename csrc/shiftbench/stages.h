// The arguments of the engine's stages: what a transformer layer computes between its matrix products, in forward
// passes and in the passes of derivatives (docs/mathematics.md, "How it is computed").
//
// A derivative is a tangent (jvp, forward mode) or a cotangent (vjp, reverse mode). A pass holds many derivatives at
// once as the rows of matrices. Row n belongs to the token position position[n], and "kept" values, which the forward
// pass saved for the derivatives, are read at that position.
//
// Each call computes on one thread. Callers that share a call among threads give each thread rows, columns or work
// items of its own; every output element is computed by one thread in a fixed order, so no result depends on the number
// of threads. Ranges [first, last) exclude `last`, as in the standard library. Arrays are contiguous, with the last
// dimension innermost.
#pragma once

#include <cstdint>

namespace shiftbench::cpu {

// Derivative of a norm (RMSNorm or LayerNorm). Its Jacobian at a position, but for the gain, is
//   J = rho (I - hat hat^T / width)             for RMSNorm,
//   J = rho (I - 1 1^T / width - hat hat^T / width)   where the norm centres (LayerNorm),
// with hat the normalised activation and rho the reciprocal of its root mean square (of its standard deviation).
//   tangent:   out[n] = gain * J derivative[n]
//   cotangent: out[n] = J (gain * derivative[n])
// derivative, out: [rows, groups, width]; hat: [positions, groups, width]; rho: [positions, groups]; gain: [width].
// A norm of whole rows has one group; a norm of each head has one group per head.
// Two passes over each row: the first sums along = mean(derivative * hat) and the mean, the second writes `out`.
template <class T>
struct NormDerivative {
    const T *derivative, *hat, *rho, *gain;
    const std::int64_t* position;
    T* out;
    std::int64_t rows, groups, width;
    bool centred, cotangent;
};

// Rotary position embedding of derivatives, in place; being linear, it is its own derivative. Element i of the first
// half of each head and element i of the second half are rotated as a pair, by the angle of the row's position, or by
// the opposite angle if `inverse`, as cotangents need it. x: [rows, heads, width]; cosine, sine: [positions, width], of
// which the first half is read.
template <class T>
struct RotaryDerivative {
    T* x;
    const T *cosine, *sine;
    const std::int64_t* position;
    std::int64_t rows, heads, width;
    bool inverse;
};

// Derivative of a feed-forward network's activation, in place. The activation is act(gate) * up, or act(up) where there
// is no gate (gate is then null); the slopes are its partial derivatives by `up` and by `gate`.
//   tangent:   up[n] = up[n] * up_slope + gate[n] * gate_slope
//   cotangent: gate[n] = up[n] * gate_slope; up[n] = up[n] * up_slope      (`up` holds the cotangent; gate is output)
// up, gate: [rows, width]; slopes: [positions, width].
template <class T>
struct ActivationDerivative {
    T *up, *gate;
    const T *up_slope, *gate_slope;
    const std::int64_t* position;
    std::int64_t rows, width;
    bool cotangent;
};

// MergedProjectionDerivative is computed in blocks of this many columns. It is a multiple of the width of a tile in
// every instruction set (8 to 32 columns of float, 4 to 16 of double), so every block consists of whole tiles.
constexpr std::int64_t columns_per_block = 64;

// Derivative of both projections of a gated feed-forward network and of its activation, in one product. The two
// projections are merged into one matrix, which differs from position to position:
//   W = diag(gate_slope) gate + diag(up_slope) up          with the slopes of the row's position
//   tangent:   out[n] = W x[n]         x: [rows, width], out: [rows, inner_width]
//   cotangent: out[n] = W^T x[n]       x: [rows, inner_width], out: [rows, width]
// gate, up: [inner_width, width]; slopes: [positions, inner_width]. Only the columns [first, last) of `out` are
// computed; `first` is a multiple of columns_per_block. csrc/kernels/merged_projection.cpp describes the algorithm.
template <class T>
struct MergedProjectionDerivative {
    const T *x, *gate, *up, *gate_slope, *up_slope;
    const std::int64_t* position;
    T* out;
    std::int64_t rows, positions, width, inner_width, first, last;
    bool cotangent;
};

// What a layer's attention kept of the forward pass. K key heads, each shared by a group of G query heads; T token
// positions; E head width.
// query, mixed: [K, G, T, E]; key, value: [K, T, E]; probability, slope: [K, G, T, T].
// mixed = probability @ value: the heads' outputs. slope: the probability, times the derivative of the logits' cap
// where the model has one.
template <class T>
struct KeptAttentionView {
    const T *query, *key, *value, *mixed;
    const T *probability, *slope;
    std::int64_t key_heads, group, tokens, width;
    T scale;  // of the logits
};

// Where the rows of each work item lie in a matrix of rows. Work item i has one row for each of the positions
// [starts[i], stops[i]), and the first of them is row offsets[i]. An attention work item is one derivative, whose rows
// attend to each other.
struct WorkItems {
    const std::int64_t *starts, *stops, *offsets;
};

// Derivative of causal attention. Work items may have derivatives of queries at some positions and derivatives of keys
// and values at others; query_items and key_items say at which, and mixed_items say for which positions there are rows
// of `mixed`.
//   tangent:   (query, key, value) -> mixed
//   cotangent: mixed -> (query, key, value)
// query, mixed: [rows, K * G, E]; key, value: [rows, K, E]. csrc/kernels/stages.cpp states the formulas.
template <class T>
struct AttentionDerivative {
    KeptAttentionView<T> kept;
    T *query, *key, *value, *mixed;
    WorkItems query_items, key_items, mixed_items;
    std::int64_t work_items;
    bool cotangent;
};

// Attention of a decoding step, which reads keys and values from a KV cache. Row n is one new position of one sequence
// and attends to the cache's positions [first_key[n], last_key[n]).
//   logit = scale * query . key, then cap * tanh(logit / cap) unless cap is 0;  out = softmax(logit) @ value
// query, out: [rows, key_heads * group, width]; key, value: [key_heads, capacity, width]. scores is scratch memory for
// the logits of one row and one head, as many as the longest row attends to.
template <class T>
struct CachedAttention {
    const T *query, *key, *value;
    const std::int64_t *first_key, *last_key;
    T *out, *scores;
    std::int64_t rows, key_heads, group, capacity, width;
    T scale, cap;
};

// A linear layer for few rows, as in a decoding step: out[n][o] = x[n] . weight[o] for the outputs [first, last).
// x: [rows, depth]; weight: [outputs, depth]; out: [rows, outputs].
template <class T>
struct SmallBatchLinear {
    const T *x, *weight;
    T* out;
    std::int64_t rows, depth, outputs, first, last;
};

// A norm in a forward pass: rho[n] = 1 / sqrt(mean((x[n] - mean)^2) + eps), hat[n] = (x[n] - mean) * rho[n],
// out[n] = hat[n] * gain + bias. The mean is that of x[n] where the norm centres, else 0. bias may be null.
// x, hat, out: [rows, width]; rho: [rows]; gain, bias: [width].
template <class T>
struct NormForward {
    const T *x, *gain, *bias;
    T *hat, *rho, *out;
    std::int64_t rows, width;
    T eps;
    bool centred;
};

// Splits a projection into heads in a forward pass and applies the rotary position embedding: out[h][n] = x[n][h],
// rotated by row n's angle unless cosine is null. x: [rows, heads, width]; cosine, sine: [rows, width];
// out: [heads, rows, width]. Only the rows [first, last) are computed.
template <class T>
struct SplitHeads {
    const T *x, *cosine, *sine;
    T* out;
    std::int64_t rows, heads, width, first, last;
};

// Queries per work item of CausalAttentionForward. It is a multiple of the height of a tile in every instruction set
// (4, 6 or 12 rows), so that only a head's last work item has an incomplete tile.
constexpr std::int64_t queries_per_work_item = 48;

// Causal attention in a forward pass; shapes as in KeptAttentionView, the cap as in CachedAttention.
//   probability = softmax over the keys that the query attends to: the last `window` positions up to its own, or all
//   positions up to its own if window is 0. mixed = probability @ value. slope: as in KeptAttentionView; null if cap is
//   0, where it would equal the probability.
// A work item is queries_per_work_item consecutive queries of one head; they are numbered head after head, and the work
// items [first, last) are computed.
template <class T>
struct CausalAttentionForward {
    const T *query, *key, *value;
    T *probability, *slope, *mixed;
    std::int64_t group, tokens, width, window, first, last;
    T scale, cap;
};

// The stages of one instruction set.
template <class T>
struct Stages {
    void (*norm_derivative)(const NormDerivative<T>&);
    void (*rotary_derivative)(const RotaryDerivative<T>&);
    void (*activation_derivative)(const ActivationDerivative<T>&);
    void (*merged_projection_derivative)(const MergedProjectionDerivative<T>&);
    void (*attention_derivative)(const AttentionDerivative<T>&);
    void (*cached_attention)(const CachedAttention<T>&);
    void (*small_batch_linear)(const SmallBatchLinear<T>&);
    void (*norm_forward)(const NormForward<T>&);
    void (*split_heads)(const SplitHeads<T>&);
    void (*causal_attention_forward)(const CausalAttentionForward<T>&);
};

}  // namespace shiftbench::cpu
