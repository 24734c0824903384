// The stages of derivatives (shiftbench/stages.h: NormDerivative, RotaryDerivative, ActivationDerivative,
// AttentionDerivative) and the attention of decoding steps (CachedAttention). Compiled with fused multiply-adds, so the
// last bits of the results depend on the instruction set. In a derivative those bits do not matter: the matrix products
// between the stages round it to the same precision many times.
#include "stages.h"

#include <math.h>  // not <cmath>, whose overloads are inline functions (tile.h, "Linkage")

#include <cstring>
#include <limits>

#include "attention_map.h"
#include "shiftbench/formulas.h"
#include "vectors.h"

namespace {

using namespace shiftbench::cpu;

template <class T>
void norm(const NormDerivative<T>& a) {
    constexpr i64 lanes = lanes_of<T>;
    const i64 width = a.width, whole = width / lanes * lanes;
    for (i64 n = 0; n < a.rows; ++n)
        for (i64 g = 0; g < a.groups; ++g) {
            const T* d = a.derivative + (n * a.groups + g) * width;
            const T* hat = a.hat + (a.position[n] * a.groups + g) * width;
            T* out = a.out + (n * a.groups + g) * width;
            Vector<T> along_v = {}, mean_v = {};
            T along = 0, mean = 0;
            for (i64 i = 0; i < whole; i += lanes) {
                const Vector<T> x = a.cotangent ? load(d + i) * load(a.gain + i) : load(d + i);
                along_v += x * load(hat + i);
                mean_v += x;
            }
            for (i64 i = whole; i < width; ++i) {
                const T x = a.cotangent ? d[i] * a.gain[i] : d[i];
                along += x * hat[i];
                mean += x;
            }
            along = (along + sum_lanes<T>(along_v)) / T(width);
            mean = a.centred ? (mean + sum_lanes<T>(mean_v)) / T(width) : T(0);
            const T rho = a.rho[a.position[n] * a.groups + g];
            for (i64 i = 0; i < whole; i += lanes) {
                const Vector<T> x = a.cotangent ? load(d + i) * load(a.gain + i) : load(d + i);
                Vector<T> y = shiftbench::norm_derivative_element(x, load(hat + i), mean, along, rho);
                if (!a.cotangent) y *= load(a.gain + i);
                store(out + i, y);
            }
            for (i64 i = whole; i < width; ++i) {
                const T x = a.cotangent ? d[i] * a.gain[i] : d[i];
                T y = shiftbench::norm_derivative_element(x, hat[i], mean, along, rho);
                if (!a.cotangent) y *= a.gain[i];
                out[i] = y;
            }
        }
}

template <class T>
void rotate(const RotaryDerivative<T>& a) {
    const i64 half = a.width / 2;
    const T sign = a.inverse ? T(-1) : T(1);
    for (i64 n = 0; n < a.rows; ++n) {
        const T *cosine = a.cosine + a.position[n] * a.width, *sine = a.sine + a.position[n] * a.width;
        for (i64 h = 0; h < a.heads; ++h) {
            T *first = a.x + (n * a.heads + h) * a.width, *second = first + half;
            for (i64 i = 0; i < half; ++i) shiftbench::rotate_pair(cosine[i], sign * sine[i], first[i], second[i]);
        }
    }
}

template <class T>
void gate(const ActivationDerivative<T>& a) {
    for (i64 n = 0; n < a.rows; ++n) {
        T *up = a.up + n * a.width, *gate = a.gate ? a.gate + n * a.width : nullptr;
        const T* up_slope = a.up_slope + a.position[n] * a.width;
        const T* gate_slope = a.gate ? a.gate_slope + a.position[n] * a.width : nullptr;
        if (!gate)
            for (i64 i = 0; i < a.width; ++i) up[i] *= up_slope[i];
        else if (a.cotangent)
            for (i64 i = 0; i < a.width; ++i) {
                gate[i] = up[i] * gate_slope[i];
                up[i] *= up_slope[i];
            }
        else
            for (i64 i = 0; i < a.width; ++i) up[i] = up[i] * up_slope[i] + gate[i] * gate_slope[i];
    }
}

// Tangent of causal attention. With q, k, v the kept queries, keys and values, P the probabilities, O the kept outputs
// of the heads (`mixed`), and dq, dk, dv the tangents of the work item, for every head:
//   map = slope * scale * (dq k^T + q dk^T)        [positions, keys]; slope multiplies each element
//   out = map v + P dv - rowsum(map) O             each row of O is multiplied by the sum of the map's row
// dq has rows at the positions of query_items, dk and dv at those of key_items, `out` at those of mixed_items. At other
// positions dq, dk and dv are zero, and the products leave those positions out. The map exists for one block of queries
// at a time. For every head, one pass over the kept queries, slopes and probabilities of the work item's positions.
template <class T>
void attention_tangent(const AttentionDerivative<T>& a) {
    const auto& kept = a.kept;
    const i64 E = kept.width, S = kept.tokens, heads = kept.key_heads * kept.group,
              M = whole_vectors<T>(S) + lanes_of<T>;
    const Scratch<T> keys(E * M), dkeys(E * M), maps(query_block * M);
    T *const key_EM = keys.get(), *const dkey_EM = dkeys.get(), *const map = maps.get();
    for (i64 k = 0; k < kept.key_heads; ++k) {
        transpose_matrix(kept.key + k * S * E, E, S, E, key_EM, M);
        const T* value = kept.value + k * S * E;
        for (i64 item = 0; item < a.work_items; ++item) {
            const i64 first = a.mixed_items.starts[item], last = a.mixed_items.stops[item];
            const i64 q_first = a.query_items.starts[item], q_last = a.query_items.stops[item];
            const i64 k_first = a.key_items.starts[item], k_last = a.key_items.stops[item];
            const T* dk = a.key + (a.key_items.offsets[item] * kept.key_heads + k) * E;
            const T* dv = a.value + (a.key_items.offsets[item] * kept.key_heads + k) * E;
            const i64 key_stride = kept.key_heads * E;
            transpose_matrix(dk, key_stride, k_last - k_first, E, dkey_EM, M);
            // The products read whole vectors of keys. What an earlier work item left in dkey_EM after this work item's
            // last key is therefore set to 0.
            for (i64 e = 0; e < E; ++e)
                for (i64 j = k_last - k_first; j < whole_vectors<T>(k_last - k_first); ++j) dkey_EM[e * M + j] = 0;
            for (i64 g = 0; g < kept.group; ++g) {
                const i64 h = k * kept.group + g;
                const T *query = kept.query + h * S * E, *slope = kept.slope + h * S * S;
                const T *probability = kept.probability + h * S * S, *mixed = kept.mixed + h * S * E;
                for (i64 begin = first; begin < last; begin += query_block) {
                    const i64 end = begin + query_block < last ? begin + query_block : last, rows = end - begin;
                    const i64 from = begin > q_first ? begin : q_first, to = end < q_last ? end : q_last;
                    const i64 changed_keys = (end < k_last ? end : k_last) - k_first;
                    // Only the keys [map_first, map_last) have elements of the block's map that are not zero: all keys
                    // up to the block's last position if a query of the block has a tangent, else only the keys that
                    // have a tangent.
                    i64 map_first = 0, map_last = end;
                    if (from < to) {
                        if (from > begin || to < end)
                            std::memset(map, 0, sizeof(T) * static_cast<std::size_t>(rows * M));
                        const T* dq = a.query + ((a.query_items.offsets[item] + from - q_first) * heads + h) * E;
                        product<false, CausalMap::output, T>({dq, heads * E, 1}, to - from, key_EM, M, E,
                                                             whole_vectors<T>(end), map + (from - begin) * M, M, from);
                        if (changed_keys > 0)
                            product<true, CausalMap::output, T>({query + begin * E, E, 1}, rows, dkey_EM, M, E,
                                                                whole_vectors<T>(changed_keys), map + k_first, M,
                                                                begin - k_first);
                    } else {
                        map_first = k_first, map_last = changed_keys > 0 ? k_first + changed_keys : k_first;
                        if (changed_keys > 0)
                            product<false, CausalMap::output, T>({query + begin * E, E, 1}, rows, dkey_EM, M, E,
                                                                 whole_vectors<T>(changed_keys), map + k_first, M,
                                                                 begin - k_first);
                    }
                    T* out = a.mixed + ((a.mixed_items.offsets[item] + begin - first) * heads + h) * E;
                    for (i64 row = 0; row < rows; ++row) {
                        T* own = map + row * M;
                        const T* factor = slope + (begin + row) * S;
                        Vector<T> sum_v = {};
                        T sum = 0;
                        const i64 seen = begin + row + 1 < map_last ? begin + row + 1 : map_last;
                        i64 j = map_first;
                        for (; j + lanes_of<T> <= seen; j += lanes_of<T>) {
                            const Vector<T> x = load(own + j) * load(factor + j) * kept.scale;
                            store(own + j, x);
                            sum_v += x;
                        }
                        for (; j < seen; ++j) sum += own[j] *= factor[j] * kept.scale;
                        mask_future_keys(own, seen, map_last);
                        sum += sum_lanes<T>(sum_v);
                        for (i64 e = 0; e < E; ++e) out[row * heads * E + e] = -sum * mixed[(begin + row) * E + e];
                    }
                    product<true, CausalMap::left, T>({map + map_first, M, 1}, rows, value + map_first * E, E,
                                                      map_last - map_first, E, out, heads * E, begin - map_first);
                    if (changed_keys > 0)
                        product<true, CausalMap::left, T>({probability + begin * S + k_first, S, 1}, rows, dv,
                                                          key_stride, changed_keys, E, out, heads * E, begin - k_first);
                }
            }
        }
    }
}

// Cotangent of causal attention. With dO the cotangent of the heads' outputs, and the other symbols those of
// attention_tangent, for every head:
//   map = slope * scale * (dO v^T - rowsum(dO * O))     [positions, keys]; `*` multiplies element by element; the sum
//                                                       of a row is subtracted from each element of that row
//   dq = map k,  dk = map^T q,  dv = P^T dO             dk and dv summed over the query heads that share the key head
// The map exists for one block of queries at a time. For every head, one pass over the kept queries, slopes and
// probabilities of the work item's positions.
template <class T>
void attention_cotangent(const AttentionDerivative<T>& a) {
    const auto& kept = a.kept;
    const i64 E = kept.width, S = kept.tokens, heads = kept.key_heads * kept.group, key_stride = kept.key_heads * E,
              M = whole_vectors<T>(S) + lanes_of<T>;
    const Scratch<T> values(E * M), maps(query_block * M);
    T *const value_EM = values.get(), *const map = maps.get();
    for (i64 k = 0; k < kept.key_heads; ++k) {
        transpose_matrix(kept.value + k * S * E, E, S, E, value_EM, M);
        const T* key = kept.key + k * S * E;
        for (i64 item = 0; item < a.work_items; ++item) {
            const i64 first = a.mixed_items.starts[item], last = a.mixed_items.stops[item];
            const i64 q_first = a.query_items.starts[item], q_last = a.query_items.stops[item];
            const i64 k_first = a.key_items.starts[item], k_last = a.key_items.stops[item];
            T* dk = a.key + (a.key_items.offsets[item] * kept.key_heads + k) * E;
            T* dv = a.value + (a.key_items.offsets[item] * kept.key_heads + k) * E;
            for (i64 j = 0; j < k_last - k_first; ++j) {
                std::memset(dk + j * key_stride, 0, sizeof(T) * static_cast<std::size_t>(E));
                std::memset(dv + j * key_stride, 0, sizeof(T) * static_cast<std::size_t>(E));
            }
            for (i64 g = 0; g < kept.group; ++g) {
                const i64 h = k * kept.group + g;
                const T *query = kept.query + h * S * E, *slope = kept.slope + h * S * S;
                const T *probability = kept.probability + h * S * S, *mixed = kept.mixed + h * S * E;
                for (i64 begin = first; begin < last; begin += query_block) {
                    const i64 end = begin + query_block < last ? begin + query_block : last, rows = end - begin;
                    const T* d = a.mixed + ((a.mixed_items.offsets[item] + begin - first) * heads + h) * E;
                    product<false, CausalMap::output, T>({d, heads * E, 1}, rows, value_EM, M, E, whole_vectors<T>(end),
                                                         map, M, begin);
                    for (i64 row = 0; row < rows; ++row) {
                        T delta = 0;
                        Vector<T> delta_v = {};
                        const T *own = d + row * heads * E, *output = mixed + (begin + row) * E;
                        i64 e = 0;
                        for (; e + lanes_of<T> <= E; e += lanes_of<T>) delta_v += load(own + e) * load(output + e);
                        for (; e < E; ++e) delta += own[e] * output[e];
                        delta += sum_lanes<T>(delta_v);
                        T* map_row = map + row * M;
                        const T* factor = slope + (begin + row) * S;
                        for (i64 j = 0; j <= begin + row; ++j)
                            map_row[j] = (map_row[j] - delta) * factor[j] * kept.scale;
                        mask_future_keys(map_row, begin + row + 1, end);
                    }
                    const i64 from = begin > q_first ? begin : q_first, to = end < q_last ? end : q_last;
                    if (from < to) {
                        T* dq = a.query + ((a.query_items.offsets[item] + from - q_first) * heads + h) * E;
                        product<false, CausalMap::left, T>({map + (from - begin) * M, M, 1}, to - from, key, E, end, E,
                                                           dq, heads * E, from);
                    }
                    const i64 changed_keys = (end < k_last ? end : k_last) - k_first;
                    if (changed_keys > 0) {
                        product<true, CausalMap::left_transposed, T>({map + k_first, 1, M}, changed_keys,
                                                                     query + begin * E, E, rows, E, dk, key_stride,
                                                                     begin - k_first);
                        product<true, CausalMap::left_transposed, T>({probability + begin * S + k_first, 1, S},
                                                                     changed_keys, d, heads * E, rows, E, dv,
                                                                     key_stride, begin - k_first);
                    }
                }
            }
        }
    }
}

inline float exponential(float x) { return expf(x); }
inline double exponential(double x) { return exp(x); }

// Takes one pass over the keys and one over the values that a row attends to, for every query head. All sums have one
// fixed order, so a row's result depends neither on the other rows nor on the capacity of the KV cache.
template <class T>
void attend(const CachedAttention<T>& a) {
    const i64 E = a.width, whole = E / lanes_of<T> * lanes_of<T>;
    for (i64 n = 0; n < a.rows; ++n)
        for (i64 h = 0; h < a.key_heads * a.group; ++h) {
            const i64 cached = (h / a.group * a.capacity + a.first_key[n]) * E, row = n * a.key_heads * a.group + h;
            const T *query = a.query + row * E, *key = a.key + cached, *value = a.value + cached;
            T largest = -std::numeric_limits<T>::infinity();
            const i64 keys = a.last_key[n] - a.first_key[n];
            for (i64 j = 0; j < keys; ++j) {
                Vector<T> sum_v = {};
                T sum = 0;
                for (i64 e = 0; e < whole; e += lanes_of<T>) sum_v += load(query + e) * load(key + j * E + e);
                for (i64 e = whole; e < E; ++e) sum += query[e] * key[j * E + e];
                T score = (sum + sum_lanes<T>(sum_v)) * a.scale;
                if (a.cap != 0) score = a.cap * hyperbolic_tangent(score / a.cap);
                a.scores[j] = score;
                largest = score > largest ? score : largest;
            }
            T sum = 0;
            for (i64 j = 0; j < keys; ++j) sum += a.scores[j] = exponential(a.scores[j] - largest);
            T* out = a.out + row * E;
            for (i64 e = 0; e < E; ++e) out[e] = 0;
            for (i64 j = 0; j < keys; ++j) {
                const T weight = a.scores[j] / sum;
                for (i64 e = 0; e < E; ++e) out[e] += weight * value[j * E + e];
            }
        }
}

}  // namespace

namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS {

void norm_derivative(const NormDerivative<float>& a) { norm(a); }
void norm_derivative(const NormDerivative<double>& a) { norm(a); }
void rotary_derivative(const RotaryDerivative<float>& a) { rotate(a); }
void rotary_derivative(const RotaryDerivative<double>& a) { rotate(a); }
void activation_derivative(const ActivationDerivative<float>& a) { gate(a); }
void activation_derivative(const ActivationDerivative<double>& a) { gate(a); }
void attention_derivative(const AttentionDerivative<float>& a) {
    a.cotangent ? attention_cotangent(a) : attention_tangent(a);
}
void attention_derivative(const AttentionDerivative<double>& a) {
    a.cotangent ? attention_cotangent(a) : attention_tangent(a);
}
void cached_attention(const CachedAttention<float>& a) { attend(a); }
void cached_attention(const CachedAttention<double>& a) { attend(a); }

}  // namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS
