// The stages of a forward pass: norms, the split into heads with rotary embedding, and causal attention
// (shiftbench/stages.h: NormForward, SplitHeads, CausalAttentionForward). Compiled with fused multiply-adds, so the
// last bits of the results depend on the instruction set. Those of the matrix products between the stages do too.
#include <math.h>  // not <cmath>, whose overloads are inline functions (tile.h, "Linkage")

#include <cstring>
#include <limits>

#include "attention_map.h"
#include "shiftbench/formulas.h"
#include "stages.h"
#include "vectors.h"

namespace {

using namespace shiftbench::cpu;

// A vector whose lanes are all x.
template <class T>
inline Vector<T> broadcast(T x) {
    return x - Vector<T>{};
}

// e^x for x <= 0, with a relative error of about one unit in the last place. Below x = -87, where e^x approaches the
// smallest normal float, the result is e^-87. The overload for doubles calls exp, and its results may become 0.
inline Vector<float> exponential(Vector<float> x) {
    typedef std::uint32_t Bits __attribute__((vector_size(vector_bytes)));
    const Vector<float> smallest = broadcast(-87.0f);
    x = x < smallest ? smallest : x;
    // e^x = 2^n e^r, where x = n ln 2 + r and |r| <= ln 2 / 2. Adding 1.5 * 2^23 to x / ln 2 rounds it to the integer n
    // and leaves n in the last bits of the sum, from where it is shifted into the exponent of a float. ln 2 is
    // subtracted in two parts, high and -low; the high part has few bits, so its product with n is exact.
    constexpr float rounding = 12582912.0f;  // 1.5 * 2^23
    constexpr float inverse_ln_2 = 1.44269504f, ln_2_high = 0.693359375f, minus_ln_2_low = 2.12194440e-4f;
    const Vector<float> shifted = x * inverse_ln_2 + rounding, n = shifted - rounding;
    const Vector<float> r = (x - n * ln_2_high) + n * minus_ln_2_low;
    Vector<float> sum = broadcast(1.0f / 5040);  // the Taylor series up to r^7 / 7!; the remainder is below 6e-9
    const float coefficients[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
    for (const float coefficient : coefficients) sum = sum * r + coefficient;
    Bits bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 23) + 0x3f800000u;  // n in the exponent's place, plus the bits of 1.0f
    Vector<float> power;
    std::memcpy(&power, &bits, sizeof power);
    return sum * power;
}

inline Vector<double> exponential(Vector<double> x) {
    for (int i = 0; i < lanes_of<double>; ++i) x[i] = exp(x[i]);
    return x;
}

inline float square_root(float x) { return sqrtf(x); }
inline double square_root(double x) { return sqrt(x); }

// Takes two or three passes over each row, which is in the innermost cache after the first: one for the mean (only
// where the norm centres), one for the mean square, one for the output.
template <class T>
void norm(const NormForward<T>& a) {
    constexpr i64 lanes = lanes_of<T>;
    const i64 width = a.width, whole = width / lanes * lanes;
    for (i64 n = 0; n < a.rows; ++n) {
        const T* x = a.x + n * width;
        T *hat = a.hat + n * width, *out = a.out + n * width;
        T mean = 0, square = 0;
        if (a.centred) {
            Vector<T> sum_v = {};
            for (i64 i = 0; i < whole; i += lanes) sum_v += load(x + i);
            for (i64 i = whole; i < width; ++i) mean += x[i];
            mean = (mean + sum_lanes<T>(sum_v)) / T(width);
        }
        Vector<T> square_v = {};
        for (i64 i = 0; i < whole; i += lanes) {
            const Vector<T> centre = load(x + i) - mean;
            square_v += centre * centre;
        }
        for (i64 i = whole; i < width; ++i) square += (x[i] - mean) * (x[i] - mean);
        const T rho = 1 / square_root((square + sum_lanes<T>(square_v)) / T(width) + a.eps);
        a.rho[n] = rho;
        for (i64 i = 0; i < width; ++i) {
            hat[i] = (x[i] - mean) * rho;
            out[i] = hat[i] * a.gain[i] + (a.bias ? a.bias[i] : T(0));
        }
    }
}

// Takes one pass over the rows [first, last): copies each head of a row and, unless cosine is null, rotates the copy.
template <class T>
void split_and_rotate(const SplitHeads<T>& a) {
    const i64 E = a.width;
    for (i64 n = a.first; n < a.last; ++n)
        for (i64 h = 0; h < a.heads; ++h) {
            T *first = a.out + (h * a.rows + n) * E, *second = first + E / 2;
            std::memcpy(first, a.x + (n * a.heads + h) * E, sizeof(T) * static_cast<std::size_t>(E));
            if (!a.cosine) continue;
            const T *cosine = a.cosine + n * E, *sine = a.sine + n * E;
            for (i64 i = 0; i < E / 2; ++i) shiftbench::rotate_pair(cosine[i], sine[i], first[i], second[i]);
        }
}

// Softmax of one row of a map, in place: the products query . key of the keys [first, last) become probabilities. The
// products are first multiplied by `scale` and, unless cap is 0, capped: logit = cap * tanh(logit / cap). `slope` then
// receives the probability times the cap's derivative, 1 - tanh^2; if cap is 0, `slope` is not used. Elements before
// `first` stay as they are; one vector of elements from `last` on is overwritten and then means nothing. Three passes
// over the row, which is in the innermost cache: one for the largest logit, one for the exponentials and their sum, one
// for the division by the sum; two more where there is a cap.
template <class T>
void softmax(T* row, i64 first, i64 last, T scale, T cap, T* slope) {
    constexpr i64 lanes = lanes_of<T>;
    for (i64 j = last; j < last + lanes; ++j) row[j] = std::numeric_limits<T>::lowest();
    if (cap != 0)
        for (i64 j = first; j < last; ++j) {
            const T x = hyperbolic_tangent(row[j] * (scale / cap));
            row[j] = x * cap;
            slope[j] = 1 - x * x;
        }
    const Vector<T> factor = broadcast(cap != 0 ? T(1) : scale);
    Vector<T> largest_v = broadcast(std::numeric_limits<T>::lowest()), sum_v = {};
    for (i64 j = first; j < last; j += lanes) {
        const Vector<T> x = load(row + j) * factor;
        store(row + j, x);
        largest_v = x > largest_v ? x : largest_v;
    }
    T largest = largest_v[0];
    for (int i = 1; i < lanes; ++i) largest = largest_v[i] > largest ? largest_v[i] : largest;
    for (i64 j = first; j < last; j += lanes) {
        Vector<T> x = exponential(load(row + j) - broadcast(largest));
        if (j + lanes > last)
            for (i64 i = last - j; i < lanes; ++i) x[i] = 0;
        store(row + j, x);
        sum_v += x;
    }
    const T inverse_sum = 1 / sum_lanes<T>(sum_v);
    for (i64 j = first; j < last; ++j) row[j] *= inverse_sum;
    if (cap != 0)
        for (i64 j = first; j < last; ++j) slope[j] *= row[j];
}

// Computes each work item in three steps: map = queries @ keys^T, then the softmax of each row of the map, then mixed =
// map @ values. The map of one work item stays in the cache; only probabilities, slopes and `mixed` are written to the
// results.
template <class T>
void attend_causally(const CausalAttentionForward<T>& a) {
    const i64 E = a.width, S = a.tokens, M = whole_vectors<T>(S) + lanes_of<T>,
              blocks = (S + queries_per_work_item - 1) / queries_per_work_item;
    const Scratch<T> keys(E * M), maps(queries_per_work_item * M);
    T *const key_EM = keys.get(), *const map = maps.get();
    i64 transposed = -1;  // the key head whose keys are in key_EM
    for (i64 work_item = a.first; work_item < a.last; ++work_item) {
        const i64 h = work_item / blocks, k = h / a.group, begin = work_item % blocks * queries_per_work_item;
        const i64 end = begin + queries_per_work_item < S ? begin + queries_per_work_item : S, rows = end - begin;
        if (k != transposed) transpose_matrix(a.key + k * S * E, E, S, E, key_EM, M);
        transposed = k;
        product<false, CausalMap::output, T>({a.query + (h * S + begin) * E, E, 1}, rows, key_EM, M, E,
                                             whole_vectors<T>(end), map, M, begin);
        for (i64 row = 0; row < rows; ++row) {
            const i64 last = begin + row + 1, first = a.window && last > a.window ? last - a.window : 0;
            T *own = map + row * M, *probability = a.probability + (h * S + begin + row) * S;
            T* slope = a.cap != 0 ? a.slope + (h * S + begin + row) * S : nullptr;
            softmax(own, first, last, a.scale, a.cap, slope);
            for (i64 j = 0; j < first; ++j) own[j] = 0;
            mask_future_keys(own, last, end);
            for (i64 j = 0; j < last; ++j) probability[j] = own[j];
            for (i64 j = last; j < S; ++j) probability[j] = 0;
            if (!slope) continue;
            for (i64 j = 0; j < first; ++j) slope[j] = 0;
            for (i64 j = last; j < S; ++j) slope[j] = 0;
        }
        product<false, CausalMap::left, T>({map, M, 1}, rows, a.value + k * S * E, E, end, E,
                                           a.mixed + (h * S + begin) * E, E, begin);
    }
}

}  // namespace

namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS {

void norm_forward(const NormForward<float>& a) { norm(a); }
void norm_forward(const NormForward<double>& a) { norm(a); }
void split_heads(const SplitHeads<float>& a) { split_and_rotate(a); }
void split_heads(const SplitHeads<double>& a) { split_and_rotate(a); }
void causal_attention_forward(const CausalAttentionForward<float>& a) { attend_causally(a); }
void causal_attention_forward(const CausalAttentionForward<double>& a) { attend_causally(a); }

}  // namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS
