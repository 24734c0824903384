// What stands between the matrix products of a forward pass, with what the derivatives need of it. Compiled with fused
// multiply-adds, like stages.cpp.
#include <math.h>  // not <cmath>: as in maps.h

#include <cstring>
#include <limits>

#include "maps.h"
#include "shiftbench/formulas.h"
#include "stages.h"
#include "vectors.h"

namespace {

using namespace shiftbench::cpu;

template <class T>
inline Vector<T> all(T x) {
    return x - Vector<T>{};
}

// e^x for x <= 0, to the last bit but one; what is below the smallest normal number is that.
inline Vector<float> exponential(Vector<float> x) {
    typedef std::uint32_t Bits __attribute__((vector_size(vector_bytes)));
    const Vector<float> least = all(-87.0f);
    x = x < least ? least : x;
    // x = n ln 2 + r with |r| <= ln 2 / 2. Adding so large a number leaves n in its last bits, from where it becomes an
    // exponent; ln 2 is taken off in two parts, of which the first times n is exact.
    constexpr float large = 12582912.0f;  // 1.5 * 2^23
    const Vector<float> shifted = x * 1.44269504f + large, n = shifted - large;
    const Vector<float> r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Vector<float> sum = all(1.0f / 5040);  // Taylor's series: what is left of it is below 6e-9
    const float coefficients[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
    for (const float coefficient : coefficients) sum = sum * r + coefficient;
    Bits bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 23) + 0x3f800000u;
    Vector<float> power;
    std::memcpy(&power, &bits, sizeof power);
    return sum * power;
}

inline Vector<double> exponential(Vector<double> x) {
    for (int i = 0; i < lanes_of<double>; ++i) x[i] = exp(x[i]);
    return x;
}

inline float root(float x) { return sqrtf(x); }
inline double root(double x) { return sqrt(x); }

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
            mean = (mean + total<T>(sum_v)) / T(width);
        }
        Vector<T> square_v = {};
        for (i64 i = 0; i < whole; i += lanes) {
            const Vector<T> centre = load(x + i) - mean;
            square_v += centre * centre;
        }
        for (i64 i = whole; i < width; ++i) square += (x[i] - mean) * (x[i] - mean);
        const T rho = 1 / root((square + total<T>(square_v)) / T(width) + a.eps);
        a.rho[n] = rho;
        for (i64 i = 0; i < width; ++i) {
            hat[i] = (x[i] - mean) * rho;
            out[i] = hat[i] * a.gain[i] + (a.bias ? a.bias[i] : T(0));
        }
    }
}

template <class T>
void heads(const HeadsForward<T>& a) {
    const i64 E = a.width;
    for (i64 n = a.first; n < a.last; ++n)
        for (i64 h = 0; h < a.heads; ++h) {
            T *first = a.out + (h * a.rows + n) * E, *second = first + E / 2;
            std::memcpy(first, a.x + (n * a.heads + h) * E, sizeof(T) * static_cast<std::size_t>(E));
            if (!a.cosine) continue;
            const T *cosine = a.cosine + n * E, *sine = a.sine + n * E;
            for (i64 i = 0; i < E / 2; ++i) shiftbench::turn_by(cosine[i], sine[i], first[i], second[i]);
        }
}

// One row of logits, those of the keys first .. last - 1, becomes probabilities; slope: of the cap, where there is one,
// becomes probability times it. Whole vectors are written behind the last.
template <class T>
void soften(T* row, i64 first, i64 last, T scale, T cap, T* slope) {
    constexpr i64 lanes = lanes_of<T>;
    for (i64 j = last; j < last + lanes; ++j) row[j] = std::numeric_limits<T>::lowest();
    if (cap != 0)
        for (i64 j = first; j < last; ++j) {
            const T x = squashed(row[j] * (scale / cap));
            row[j] = x * cap;
            slope[j] = 1 - x * x;
        }
    const Vector<T> times = all(cap != 0 ? T(1) : scale);
    Vector<T> most_v = all(std::numeric_limits<T>::lowest()), sum_v = {};
    for (i64 j = first; j < last; j += lanes) {
        const Vector<T> x = load(row + j) * times;
        store(row + j, x);
        most_v = x > most_v ? x : most_v;
    }
    T most = most_v[0];
    for (int i = 1; i < lanes; ++i) most = most_v[i] > most ? most_v[i] : most;
    for (i64 j = first; j < last; j += lanes) {
        Vector<T> x = exponential(load(row + j) - all(most));
        if (j + lanes > last)
            for (i64 i = last - j; i < lanes; ++i) x[i] = 0;
        store(row + j, x);
        sum_v += x;
    }
    const T share = 1 / total<T>(sum_v);
    for (i64 j = first; j < last; ++j) row[j] *= share;
    if (cap != 0)
        for (i64 j = first; j < last; ++j) slope[j] *= row[j];
}

template <class T>
void mix(const MixForward<T>& a) {
    const i64 E = a.width, S = a.tokens, M = padded<T>(S) + lanes_of<T>, blocks = (S + mix_queries - 1) / mix_queries;
    const Scratch<T> keys(E * M), maps(mix_queries * M);
    T *const key_EM = keys.get(), *const map = maps.get();
    i64 turned = -1;
    for (i64 unit = a.first; unit < a.last; ++unit) {
        const i64 h = unit / blocks, k = h / a.group, begin = unit % blocks * mix_queries;
        const i64 end = begin + mix_queries < S ? begin + mix_queries : S, rows = end - begin;
        if (k != turned) turn(a.key + k * S * E, E, S, E, key_EM, M);
        turned = k;
        product<false, Map::made, T>({a.query + (h * S + begin) * E, E, 1}, rows, key_EM, M, E, padded<T>(end), map, M,
                                     begin);
        for (i64 row = 0; row < rows; ++row) {
            const i64 last = begin + row + 1, first = a.window && last > a.window ? last - a.window : 0;
            T *own = map + row * M, *probability = a.probability + (h * S + begin + row) * S;
            T* slope = a.cap != 0 ? a.slope + (h * S + begin + row) * S : nullptr;
            soften(own, first, last, a.scale, a.cap, slope);
            for (i64 j = 0; j < first; ++j) own[j] = 0;
            hide(own, last, end);
            for (i64 j = 0; j < last; ++j) probability[j] = own[j];
            for (i64 j = last; j < S; ++j) probability[j] = 0;
            if (!slope) continue;
            for (i64 j = 0; j < first; ++j) slope[j] = 0;
            for (i64 j = last; j < S; ++j) slope[j] = 0;
        }
        product<false, Map::queries, T>({map, M, 1}, rows, a.value + k * S * E, E, end, E,
                                        a.mixed + (h * S + begin) * E, E, begin);
    }
}

}  // namespace

namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS {

void norm_forward(const NormForward<float>& a) { norm(a); }
void norm_forward(const NormForward<double>& a) { norm(a); }
void heads_forward(const HeadsForward<float>& a) { heads(a); }
void heads_forward(const HeadsForward<double>& a) { heads(a); }
void mix_forward(const MixForward<float>& a) { mix(a); }
void mix_forward(const MixForward<double>& a) { mix(a); }

}  // namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS
