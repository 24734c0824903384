// The arguments of the engine's stages, which are the steps of a transformer layer that the core computes, in forward
// passes and in passes of derivatives (docs/mathematics.md, "How it is computed"): norms, rotary embeddings,
// activations and attention, and two matrix products (MergedProjectionDerivative, SmallBatchLinear). torch computes the
// layer's other matrix products.
//
// A derivative is a tangent (jvp, forward mode) or a cotangent (vjp, reverse mode). A pass holds many derivatives at
// once: each has one row, in a matrix, for each token position where it may be other than zero. Row n belongs to the
// token position position[n]. "Kept" values are those that the forward pass saved for the derivatives; for row n they
// are read at position[n].
//
// Each call of a stage computes on one thread. A caller that uses several threads calls the stage once on each of them,
// for other rows, columns or work items. Every output element is computed by one thread in a fixed order, so no result
// depends on the number of threads. Ranges [first, last) exclude `last`, as in the standard library. Arrays are
// contiguous, with the last dimension innermost.
#pragma once

#include <cstdint>

namespace shiftbench::cpu {

// Derivative of a norm (RMSNorm or LayerNorm). The norm's Jacobian at a position, without the gain, is
//   J = rho (I - hat hat^T / width)                   for RMSNorm,
//   J = rho (I - 1 1^T / width - hat hat^T / width)   where the norm centres (LayerNorm).
// rho is the reciprocal of the root mean square of the norm's input, or of its standard deviation where the norm
// centres, both with eps added to the mean square. hat is that input (less its mean where the norm centres) times rho.
// NormForward computes both.
//   tangent:   out[n] = gain * J derivative[n]
//   cotangent: out[n] = J (gain * derivative[n])
// derivative, out: [rows, groups, width]; hat: [positions, groups, width]; rho: [positions, groups]; gain: [width].
// A norm of whole rows has one group; a norm of each head has one group per head.
// Two passes over each group of a row. With x = derivative[n], times the gain for a cotangent, the first pass computes
// along = mean(x * hat) and, where the norm centres, mean(x). The second pass writes `out`.
template <class T>
struct NormDerivative {
    const T *derivative, *hat, *rho, *gain;
    const std::int64_t* position;
    T* out;
    std::int64_t rows, groups, width;
    bool centred, cotangent;
};

// Derivative of the rotary position embedding, in place. The embedding is a rotation, which is linear, so tangents are
// rotated like the activations themselves. Element i of the first half of each head and element i of the second half
// are rotated as a pair, by angle i of the row's position. `inverse` rotates by the opposite angle, which is what
// cotangents need. x: [rows, heads, width]; cosine, sine: [positions, width]; only the first half of each of their rows
// is read.
template <class T>
struct RotaryDerivative {
    T* x;
    const T *cosine, *sine;
    const std::int64_t* position;
    std::int64_t rows, heads, width;
    bool inverse;
};

// Derivative of a feed-forward network's activation, in place. The activation is act(gate) * up, or act(up) in a
// network without a gate. The slopes are the kept partial derivatives of the activation by `up` and by `gate`.
//   tangent:   up[n] = up[n] * up_slope + gate[n] * gate_slope
//   cotangent: gate[n] = up[n] * gate_slope, then up[n] = up[n] * up_slope
//   no gate:   up[n] = up[n] * up_slope
// A cotangent of the activation is passed in `up`; what `gate` holds before is not read. Without a gate, gate and
// gate_slope are null. up, gate: [rows, width]; slopes: [positions, width].
template <class T>
struct ActivationDerivative {
    T *up, *gate;
    const T *up_slope, *gate_slope;
    const std::int64_t* position;
    std::int64_t rows, width;
    bool cotangent;
};

// Threads share the columns of MergedProjectionDerivative's output in blocks of this many. It is a multiple of the
// width of a tile in every instruction set (8 to 32 columns of float, 4 to 16 of double), so every block but the last
// consists of whole tiles.
constexpr std::int64_t columns_per_block = 64;

// Derivative of a gated feed-forward network's activation through the two projections before it, in one product. The
// weights of the two projections are merged into one matrix, which differs from position to position:
//   W = diag(gate_slope) gate + diag(up_slope) up          with the slopes of the row's position
//   tangent:   out[n] = W x[n]         x: [rows, width], out: [rows, inner_width]
//   cotangent: out[n] = W^T x[n]       x: [rows, inner_width], out: [rows, width]
// gate, up: the weights, [inner_width, width]; the slopes (ActivationDerivative): [positions, inner_width]. Only the
// columns [first, last) of `out` are computed; `first` is a multiple of columns_per_block.
// csrc/kernels/merged_projection.cpp describes the algorithm.
template <class T>
struct MergedProjectionDerivative {
    const T *x, *gate, *up, *gate_slope, *up_slope;
    const std::int64_t* position;
    T* out;
    std::int64_t rows, positions, width, inner_width, first, last;
    bool cotangent;
};

// What a layer's attention kept of the forward pass. K is the number of key heads, each shared by a group of G query
// heads; T the number of token positions; E the width of a head.
// query, mixed: [K, G, T, E]; key, value: [K, T, E]; probability, slope: [K, G, T, T], by query, then key position.
// mixed = probability @ value are the heads' outputs. slope is the probability, times the derivative of the logits' cap
// in models that have a cap.
template <class T>
struct KeptAttentionView {
    const T *query, *key, *value, *mixed;
    const T *probability, *slope;
    std::int64_t key_heads, group, tokens, width;
    T scale;  // the factor of query . key in a logit
};

// Where the rows of each work item lie in a matrix of rows. Work item i has one row for each of the positions
// [starts[i], stops[i]). The first of these rows is row offsets[i] of the matrix, and the others follow it.
struct WorkItems {
    const std::int64_t *starts, *stops, *offsets;
};

// Derivative of causal attention. A work item is one derivative: one tangent or one cotangent, with all its rows. It
// may have rows of queries at some positions, rows of keys and values at others, and rows of `mixed`, the heads'
// outputs, at others again: query_items, key_items and mixed_items say at which.
//   tangent:   reads query, key and value, writes mixed
//   cotangent: reads mixed, writes query, key and value
// What is written replaces what was there. A row of `query` is read or written only if mixed_items has its position,
// too.
// query, mixed: [rows, K * G, E]; key, value: [rows, K, E] (letters as in KeptAttentionView). csrc/kernels/stages.cpp
// states the formulas.
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
//   logit = scale * query . key, then cap * tanh(logit / cap) unless cap is 0
//   out = softmax(logit) @ value
// query, out: [rows, key_heads * group, width]; key, value: [key_heads, capacity, width]. scores is scratch memory for
// the logits of one row and one head; it has as many elements as the longest range [first_key[n], last_key[n]).
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
// rotated by row n's angles (RotaryDerivative says which elements are pairs) unless cosine is null.
// x: [rows, heads, width]; cosine, sine: [rows, width], of which the first half of each row is read;
// out: [heads, rows, width]. Only the rows [first, last) are computed.
template <class T>
struct SplitHeads {
    const T *x, *cosine, *sine;
    T* out;
    std::int64_t rows, heads, width, first, last;
};

// The largest number of queries in a work item of CausalAttentionForward. It is a multiple of the height of a tile in
// every instruction set (4, 6 or 12 rows), so that only a head's last work item may have an incomplete tile.
constexpr std::int64_t queries_per_work_item = 48;

// Causal attention in a forward pass, for queries at the positions [0, tokens).
//   logit = scale * query . key, then cap * tanh(logit / cap) unless cap is 0
//   probability = softmax of the logits over the keys that the query attends to, and 0 for all other keys
//   mixed = probability @ value
//   slope = probability times the derivative of the cap, 1 - tanh^2; not written, and may be null, if cap is 0
// A query attends to its own position and those before it: to the last `window` of these, or to all if window is 0.
// query, mixed: [K, G, T, E]; key, value: [K, T, E]; probability, slope: [K, G, T, T] (letters: KeptAttentionView).
// A work item is queries_per_work_item consecutive queries of one query head, or fewer at the head's end. Work items
// are numbered head after head; those in [first, last) are computed.
template <class T>
struct CausalAttentionForward {
    const T *query, *key, *value;
    T *probability, *slope, *mixed;
    std::int64_t group, tokens, width, window, first, last;
    T scale, cap;
};

// The functions that compute the stages, compiled for one instruction set.
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
