// Derivatives of a transformer layer's parts between its matrix products (docs/mathematics.md). Rows of many
// derivatives at once: row n belongs to position[n], where what the forward pass kept is read. Each call runs on one
// thread: the engine gives each thread rows of its own, and where it has threads to spare, bindings.cpp gives them
// parts of these.
#pragma once

#include <cstdint>

namespace shiftbench::cpu {

// out[n] = J d[n], with J = rho (1 - hat hat^T / width), less the mean too where the norm centres; times the gain,
// before J for a cotangent, behind it for a tangent.
template <class T>
struct NormRows {
    const T *d, *hat, *rho, *gain;
    const std::int64_t* position;
    T* out;
    std::int64_t rows, groups, width;  // groups of `width` numbers in a row, each normalised by itself; gain: one group
    bool centred, cotangent;
};

// Each head's first half turned against its second by its position's angle, in place; back: by the opposite angle.
template <class T>
struct RotateRows {
    T* x;
    const T *cosine, *sine;  // width numbers a position, of which the first half counts
    const std::int64_t* position;
    std::int64_t rows, heads, width;
    bool back;
};

// up[n] = up[n] * up_slope + gate[n] * gate_slope, in place; for a cotangent up and gate become d times either slope.
template <class T>
struct GateRows {
    T *up, *gate;  // gate: null where there is none; written for a cotangent
    const T *up_slope, *gate_slope;
    const std::int64_t* position;
    std::int64_t rows, width;
    bool cotangent;
};

constexpr std::int64_t gated_columns = 64;  // whole tiles in every instruction set

// Through the two projections of a gated feed-forward network: with W = diag(gate_slope) gate + diag(up_slope) up of a
// row's position, out[n] = W x[n] for a tangent, W^T x[n] for a cotangent. gate, up: [inner, width], their slopes
// [positions, inner]; x: [rows, width], out: [rows, inner], a cotangent's the other way round. Columns first .. last -
// 1 of out are made; first is a multiple of `gated_columns`.
template <class T>
struct GatedRows {
    const T *x, *gate, *up, *gate_slope, *up_slope;
    const std::int64_t* position;
    T* out;
    std::int64_t rows, positions, width, inner, first, last;
    bool cotangent;
};

// A layer's attention as the forward pass left it: K key heads, G query heads to each, T positions, width E.
template <class T>
struct KeptAttentionView {
    const T *query, *key, *value, *mixed;  // [K, G, T, E], [K, T, E], [K, T, E], [K, G, T, E]
    const T *probability, *slope;          // [K, G, T, T]
    std::int64_t key_heads, group, tokens, width;
    T scale;
};

// Items of rows: item i has rows for positions starts[i] .. stops[i] - 1, from row offsets[i] on.
struct Items {
    const std::int64_t *starts, *stops, *offsets;
};

// Tangents: query [rows, K * G, E], key and value [rows, K, E] -> mixed [rows, K * G, E].
// Cotangents: mixed -> query, key, value. Items of queries and keys say which rows there are; `outer` those of mixed.
template <class T>
struct AttentionRows {
    KeptAttentionView<T> kept;
    T *query, *key, *value, *mixed;
    Items queries, keys, outer;
    std::int64_t items;
    bool cotangent;
};

// Attention of new positions, one a row: row n's query meets the keys at first[n] .. last[n] - 1 in a cache,
// [key_heads, room, width]. query, out: [rows, key_heads * group, width]; scores: a number for each key that a row
// meets. Logits are scaled, then become cap * tanh(logit / cap) unless cap is 0.
template <class T>
struct AttendRows {
    const T *query, *key, *value;
    const std::int64_t *first, *last;
    T *out, *scores;
    std::int64_t rows, key_heads, group, room, width;
    T scale, cap;
};

// out[n][o] = x[n] . weight[o] for the outputs first .. last - 1. x: [rows, depth], weight: [outputs, depth].
template <class T>
struct ThinRows {
    const T *x, *weight;
    T* out;
    std::int64_t rows, depth, outputs, first, last;
};

// A norm in a forward pass: hat[n] = (x[n] - mean) rho[n], with rho[n] one over the root of the mean square and eps,
// and mean 0 where the norm does not centre; out[n] = hat[n] * gain + bias. bias: null where there is none.
template <class T>
struct NormForward {
    const T *x, *gain, *bias;
    T *hat, *rho, *out;
    std::int64_t rows, width;
    T eps;
    bool centred;
};

// Heads apart, in a forward pass: out[h][n] = x[n][h], turned by position n's angle unless cosine is null. x: [rows,
// heads, width], cosine and sine: [rows, width]. Of rows first .. last - 1.
template <class T>
struct HeadsForward {
    const T *x, *cosine, *sine;
    T* out;
    std::int64_t rows, heads, width, first, last;
};

constexpr std::int64_t mix_queries = 48;  // whole tiles in every instruction set

// Attention in a forward pass, shapes as in KeptAttentionView: probability of the softmax over the keys that a query
// sees, the last `window` of those up to itself, all where it is 0; mixed = probability @ value. cap: as in AttendRows;
// slope: probability times the cap's slope, where there is one. Of the units first .. last - 1: `mix_queries` queries
// each, head after head.
template <class T>
struct MixForward {
    const T *query, *key, *value;
    T *probability, *slope, *mixed;
    std::int64_t group, tokens, width, window, first, last;
    T scale, cap;
};

template <class T>
struct Stages {
    void (*norm)(const NormRows<T>&);
    void (*rotate)(const RotateRows<T>&);
    void (*gate)(const GateRows<T>&);
    void (*gated)(const GatedRows<T>&);
    void (*attention)(const AttentionRows<T>&);
    void (*attend)(const AttendRows<T>&);
    void (*thin)(const ThinRows<T>&);
    void (*norm_forward)(const NormForward<T>&);
    void (*heads_forward)(const HeadsForward<T>&);
    void (*mix_forward)(const MixForward<T>&);
};

}  // namespace shiftbench::cpu
