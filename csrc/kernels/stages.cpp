// Derivatives of a layer's parts, row by row and head by head, each in one pass while what it needs is in cache.
// Compiled with fused multiply-adds: what they compute is rounded to float32 a hundred times elsewhere.
#include "stages.h"

#include <math.h>  // not <cmath>: as in maps.h

#include <cstring>
#include <limits>

#include "maps.h"
#include "shiftbench/formulas.h"
#include "vectors.h"

namespace {

using namespace shiftbench::cpu;

template <class T>
void norm(const NormRows<T>& a) {
    constexpr i64 lanes = lanes_of<T>;
    const i64 width = a.width, whole = width / lanes * lanes;
    for (i64 n = 0; n < a.rows; ++n)
        for (i64 g = 0; g < a.groups; ++g) {
            const T* d = a.d + (n * a.groups + g) * width;
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
            along = (along + total<T>(along_v)) / T(width);
            mean = a.centred ? (mean + total<T>(mean_v)) / T(width) : T(0);
            const T rho = a.rho[a.position[n] * a.groups + g];
            for (i64 i = 0; i < whole; i += lanes) {
                const Vector<T> x = a.cotangent ? load(d + i) * load(a.gain + i) : load(d + i);
                Vector<T> y = shiftbench::norm_derivative(x, load(hat + i), mean, along, rho);
                if (!a.cotangent) y *= load(a.gain + i);
                store(out + i, y);
            }
            for (i64 i = whole; i < width; ++i) {
                const T x = a.cotangent ? d[i] * a.gain[i] : d[i];
                T y = shiftbench::norm_derivative(x, hat[i], mean, along, rho);
                if (!a.cotangent) y *= a.gain[i];
                out[i] = y;
            }
        }
}

template <class T>
void rotate(const RotateRows<T>& a) {
    const i64 half = a.width / 2;
    const T sign = a.back ? T(-1) : T(1);
    for (i64 n = 0; n < a.rows; ++n) {
        const T *cosine = a.cosine + a.position[n] * a.width, *sine = a.sine + a.position[n] * a.width;
        for (i64 h = 0; h < a.heads; ++h) {
            T *first = a.x + (n * a.heads + h) * a.width, *second = first + half;
            for (i64 i = 0; i < half; ++i) shiftbench::turn_by(cosine[i], sign * sine[i], first[i], second[i]);
        }
    }
}

template <class T>
void gate(const GateRows<T>& a) {
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

// Per key head and item: map = slope * scale * (dq k^T + q dk^T), mixed = map v + P dv - rowsum(map) O.
template <class T>
void attention_tangent(const AttentionRows<T>& a) {
    const auto& kept = a.kept;
    const i64 E = kept.width, S = kept.tokens, heads = kept.key_heads * kept.group, M = padded<T>(S) + lanes_of<T>;
    const Scratch<T> keys(E * M), turned(E * M), maps(block * M);
    T *const key_EM = keys.get(), *const turned_EM = turned.get(), *const map = maps.get();
    for (i64 k = 0; k < kept.key_heads; ++k) {
        turn(kept.key + k * S * E, E, S, E, key_EM, M);
        const T* value = kept.value + k * S * E;
        for (i64 item = 0; item < a.items; ++item) {
            const i64 first = a.outer.starts[item], last = a.outer.stops[item];
            const i64 q_first = a.queries.starts[item], q_last = a.queries.stops[item];
            const i64 k_first = a.keys.starts[item], k_last = a.keys.stops[item];
            const T* dk = a.key + (a.keys.offsets[item] * kept.key_heads + k) * E;
            const T* dv = a.value + (a.keys.offsets[item] * kept.key_heads + k) * E;
            const i64 key_row = kept.key_heads * E;
            turn(dk, key_row, k_last - k_first, E, turned_EM, M);
            // Whole vectors are read: behind an item's keys must be nothing of an item before.
            for (i64 e = 0; e < E; ++e)
                for (i64 j = k_last - k_first; j < padded<T>(k_last - k_first); ++j) turned_EM[e * M + j] = 0;
            for (i64 g = 0; g < kept.group; ++g) {
                const i64 h = k * kept.group + g;
                const T *query = kept.query + h * S * E, *slope = kept.slope + h * S * S;
                const T *probability = kept.probability + h * S * S, *mixed = kept.mixed + h * S * E;
                for (i64 begin = first; begin < last; begin += block) {
                    const i64 end = begin + block < last ? begin + block : last, rows = end - begin;
                    const i64 from = begin > q_first ? begin : q_first, to = end < q_last ? end : q_last;
                    const i64 new_keys = (end < k_last ? end : k_last) - k_first;
                    // A changed query meets every key, but for those behind the block's last, which it does not see;
                    // where none has changed, only changed keys are met.
                    i64 met_first = 0, met_last = end;
                    if (from < to) {
                        if (from > begin || to < end)
                            std::memset(map, 0, sizeof(T) * static_cast<std::size_t>(rows * M));
                        const T* dq = a.query + ((a.queries.offsets[item] + from - q_first) * heads + h) * E;
                        product<false, Map::made, T>({dq, heads * E, 1}, to - from, key_EM, M, E, padded<T>(end),
                                                     map + (from - begin) * M, M, from);
                        if (new_keys > 0)
                            product<true, Map::made, T>({query + begin * E, E, 1}, rows, turned_EM, M, E,
                                                        padded<T>(new_keys), map + k_first, M, begin - k_first);
                    } else {
                        met_first = k_first, met_last = new_keys > 0 ? k_first + new_keys : k_first;
                        if (new_keys > 0)
                            product<false, Map::made, T>({query + begin * E, E, 1}, rows, turned_EM, M, E,
                                                         padded<T>(new_keys), map + k_first, M, begin - k_first);
                    }
                    T* out = a.mixed + ((a.outer.offsets[item] + begin - first) * heads + h) * E;
                    for (i64 row = 0; row < rows; ++row) {
                        T* own = map + row * M;
                        const T* factor = slope + (begin + row) * S;
                        Vector<T> sum_v = {};
                        T sum = 0;
                        const i64 seen = begin + row + 1 < met_last ? begin + row + 1 : met_last;
                        i64 j = met_first;
                        for (; j + lanes_of<T> <= seen; j += lanes_of<T>) {
                            const Vector<T> x = load(own + j) * load(factor + j) * kept.scale;
                            store(own + j, x);
                            sum_v += x;
                        }
                        for (; j < seen; ++j) sum += own[j] *= factor[j] * kept.scale;
                        hide(own, seen, met_last);
                        sum += total<T>(sum_v);
                        for (i64 e = 0; e < E; ++e) out[row * heads * E + e] = -sum * mixed[(begin + row) * E + e];
                    }
                    product<true, Map::queries, T>({map + met_first, M, 1}, rows, value + met_first * E, E,
                                                   met_last - met_first, E, out, heads * E, begin - met_first);
                    if (new_keys > 0)
                        product<true, Map::queries, T>({probability + begin * S + k_first, S, 1}, rows, dv, key_row,
                                                       new_keys, E, out, heads * E, begin - k_first);
                }
            }
        }
    }
}

// Per key head and item: map = slope * scale * (dO v^T - rowsum(dO O)); dq = map k, dk = map^T q, dv = P^T dO.
template <class T>
void attention_cotangent(const AttentionRows<T>& a) {
    const auto& kept = a.kept;
    const i64 E = kept.width, S = kept.tokens, heads = kept.key_heads * kept.group, key_row = kept.key_heads * E,
              M = padded<T>(S) + lanes_of<T>;
    const Scratch<T> values(E * M), maps(block * M);
    T *const value_EM = values.get(), *const map = maps.get();
    for (i64 k = 0; k < kept.key_heads; ++k) {
        turn(kept.value + k * S * E, E, S, E, value_EM, M);
        const T* key = kept.key + k * S * E;
        for (i64 item = 0; item < a.items; ++item) {
            const i64 first = a.outer.starts[item], last = a.outer.stops[item];
            const i64 q_first = a.queries.starts[item], q_last = a.queries.stops[item];
            const i64 k_first = a.keys.starts[item], k_last = a.keys.stops[item];
            T* dk = a.key + (a.keys.offsets[item] * kept.key_heads + k) * E;
            T* dv = a.value + (a.keys.offsets[item] * kept.key_heads + k) * E;
            for (i64 j = 0; j < k_last - k_first; ++j) {
                std::memset(dk + j * key_row, 0, sizeof(T) * static_cast<std::size_t>(E));
                std::memset(dv + j * key_row, 0, sizeof(T) * static_cast<std::size_t>(E));
            }
            for (i64 g = 0; g < kept.group; ++g) {
                const i64 h = k * kept.group + g;
                const T *query = kept.query + h * S * E, *slope = kept.slope + h * S * S;
                const T *probability = kept.probability + h * S * S, *mixed = kept.mixed + h * S * E;
                for (i64 begin = first; begin < last; begin += block) {
                    const i64 end = begin + block < last ? begin + block : last, rows = end - begin;
                    const T* d = a.mixed + ((a.outer.offsets[item] + begin - first) * heads + h) * E;
                    product<false, Map::made, T>({d, heads * E, 1}, rows, value_EM, M, E, padded<T>(end), map, M,
                                                 begin);
                    for (i64 row = 0; row < rows; ++row) {
                        T delta = 0;
                        Vector<T> delta_v = {};
                        const T *own = d + row * heads * E, *with = mixed + (begin + row) * E;
                        i64 e = 0;
                        for (; e + lanes_of<T> <= E; e += lanes_of<T>) delta_v += load(own + e) * load(with + e);
                        for (; e < E; ++e) delta += own[e] * with[e];
                        delta += total<T>(delta_v);
                        T* line = map + row * M;
                        const T* factor = slope + (begin + row) * S;
                        for (i64 j = 0; j <= begin + row; ++j) line[j] = (line[j] - delta) * factor[j] * kept.scale;
                        hide(line, begin + row + 1, end);
                    }
                    const i64 from = begin > q_first ? begin : q_first, to = end < q_last ? end : q_last;
                    if (from < to) {
                        T* dq = a.query + ((a.queries.offsets[item] + from - q_first) * heads + h) * E;
                        product<false, Map::queries, T>({map + (from - begin) * M, M, 1}, to - from, key, E, end, E, dq,
                                                        heads * E, from);
                    }
                    const i64 new_keys = (end < k_last ? end : k_last) - k_first;
                    if (new_keys > 0) {
                        product<true, Map::keys, T>({map + k_first, 1, M}, new_keys, query + begin * E, E, rows, E, dk,
                                                    key_row, begin - k_first);
                        product<true, Map::keys, T>({probability + begin * S + k_first, 1, S}, new_keys, d, heads * E,
                                                    rows, E, dv, key_row, begin - k_first);
                    }
                }
            }
        }
    }
}

inline float exponential(float x) { return expf(x); }
inline double exponential(double x) { return exp(x); }

// Every head sums in one fixed order, so a row does not depend on the rows beside it, nor on the cache's room.
template <class T>
void attend(const AttendRows<T>& a) {
    const i64 E = a.width, whole = E / lanes_of<T> * lanes_of<T>;
    for (i64 n = 0; n < a.rows; ++n)
        for (i64 h = 0; h < a.key_heads * a.group; ++h) {
            const i64 cached = (h / a.group * a.room + a.first[n]) * E, row = n * a.key_heads * a.group + h;
            const T *query = a.query + row * E, *key = a.key + cached, *value = a.value + cached;
            T most = -std::numeric_limits<T>::infinity();
            const i64 met = a.last[n] - a.first[n];
            for (i64 j = 0; j < met; ++j) {
                Vector<T> sum_v = {};
                T sum = 0;
                for (i64 e = 0; e < whole; e += lanes_of<T>) sum_v += load(query + e) * load(key + j * E + e);
                for (i64 e = whole; e < E; ++e) sum += query[e] * key[j * E + e];
                T score = (sum + total<T>(sum_v)) * a.scale;
                if (a.cap != 0) score = a.cap * squashed(score / a.cap);
                a.scores[j] = score;
                most = score > most ? score : most;
            }
            T sum = 0;
            for (i64 j = 0; j < met; ++j) sum += a.scores[j] = exponential(a.scores[j] - most);
            T* out = a.out + row * E;
            for (i64 e = 0; e < E; ++e) out[e] = 0;
            for (i64 j = 0; j < met; ++j) {
                const T weight = a.scores[j] / sum;
                for (i64 e = 0; e < E; ++e) out[e] += weight * value[j * E + e];
            }
        }
}

}  // namespace

namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS {

void norm_rows(const NormRows<float>& a) { norm(a); }
void norm_rows(const NormRows<double>& a) { norm(a); }
void rotate_rows(const RotateRows<float>& a) { rotate(a); }
void rotate_rows(const RotateRows<double>& a) { rotate(a); }
void gate_rows(const GateRows<float>& a) { gate(a); }
void gate_rows(const GateRows<double>& a) { gate(a); }
void attention_rows(const AttentionRows<float>& a) { a.cotangent ? attention_cotangent(a) : attention_tangent(a); }
void attention_rows(const AttentionRows<double>& a) { a.cotangent ? attention_cotangent(a) : attention_tangent(a); }
void attend_rows(const AttendRows<float>& a) { attend(a); }
void attend_rows(const AttendRows<double>& a) { attend(a); }

}  // namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS
