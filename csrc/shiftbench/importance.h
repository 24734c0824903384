// Importance of prompt tokens for response tokens: gradient x input, its levels, their density (docs/mathematics.md).
// P prompt tokens, R response tokens, D model width.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "formulas.h"
#include "instructions.h"
#include "number.h"
#include "parallel.h"
#include "view.h"

namespace shiftbench::cpu {

// importance[p, r] = grad[r, p, :] . embedding[p, :].
template <class T>
void grad_x_input(Planes<const T> grad, Rows<const T> embedding, Rows<accumulator_t<T>> importance) {
    const std::int64_t tokens = grad.rows, width = grad.cols;
    parallel_for(grad.planes * tokens, grain_of(width), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t item = begin; item < end; ++item) {
            const std::int64_t r = item / tokens, p = item % tokens;
            importance[p][r] = dot<accumulator_t<T>>(grad[r][p], embedding[p], width);
        }
    });
}

// level[p, r] = ceil(levels * a[p, r] / (max over p of a[:, r] + 1e-7)), a = max(0, importance).
// Returns the flat index of the first importance that is not finite (levels are then undefined), or -1.
template <class T>
std::int64_t importance_levels(Rows<const T> importance, Rows<std::uint8_t> level, int levels) {
    Lowest bad;
    parallel_for(importance.cols, grain_of(importance.rows), [&](std::int64_t begin, std::int64_t end) {
        std::vector<double> largest(static_cast<std::size_t>(end - begin), 0.0);
        for (std::int64_t p = 0; p < importance.rows; ++p)
            for (std::int64_t r = begin; r < end; ++r) {
                const double value = importance[p][r];
                if (!std::isfinite(value)) return bad.report(p * importance.cols + r);
                auto& most = largest[static_cast<std::size_t>(r - begin)];
                most = std::max(most, value);
            }
        for (std::int64_t p = 0; p < importance.rows; ++p)
            for (std::int64_t r = begin; r < end; ++r)
                level[p][r] = level_of(importance[p][r], largest[static_cast<std::size_t>(r - begin)], levels);
    });
    return bad.get();
}

// density[p] = l1 / (lp + 1e-9) of row p of level, levels at or below cutoff taken as 0; then divided by
// (the largest density + 1e-9). 0 where the row is all zero.
// Returns the flat index of the first level that is negative or not finite (density is then undefined), or -1.
template <class T, class Out>
std::int64_t importance_density(Rows<const T> level, Out* density, int cutoff, double p_norm) {
    Lowest bad;
    std::vector<double> ratio(static_cast<std::size_t>(level.rows));
    parallel_for(level.rows, grain_of(16 * level.cols), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t p = begin; p < end; ++p) {
            double l1 = 0, power = 0;
            for (std::int64_t r = 0; r < level.cols; ++r) {
                const double value = level[p][r];
                if (!(value >= 0) || std::isinf(value)) return bad.report(p * level.cols + r);
                if (value <= cutoff) continue;
                l1 += value;
                power += std::pow(value, p_norm);
            }
            ratio[static_cast<std::size_t>(p)] = density_ratio(l1, power, p_norm);
        }
    });
    const double largest = ratio.empty() ? 0 : *std::max_element(ratio.begin(), ratio.end());
    for (std::size_t p = 0; p < ratio.size(); ++p) density[p] = static_cast<Out>(density_of(ratio[p], largest));
    return bad.get();
}

// The three above in one pass over the gradients: a response token's levels are made while its importances, a
// thousandth of its gradients, are in cache. Returns as importance_levels does; density is then undefined too.
template <class T>
std::int64_t importance_density_from_grad(Planes<const T> grad, Rows<const T> embedding,
                                          Rows<accumulator_t<T>> importance, Rows<std::uint8_t> level,
                                          accumulator_t<T>* density, int levels, int cutoff, double p_norm) {
    Lowest bad;
    parallel_for(grad.planes, grain_of(grad.rows * grad.cols), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
            const Rows<const T> plane = grad[r];
            double largest = 0;
            for (std::int64_t p = 0; p < plane.rows; ++p) {
                importance[p][r] = dot<accumulator_t<T>>(plane[p], embedding[p], plane.cols);
                if (!std::isfinite(importance[p][r])) bad.report(p * grad.planes + r);
                largest = std::max(largest, double(importance[p][r]));
            }
            for (std::int64_t p = 0; p < plane.rows && bad.get() < 0; ++p)
                level[p][r] = level_of(importance[p][r], largest, levels);
        }
    });
    if (bad.get() >= 0) return bad.get();
    const Rows<const std::uint8_t> done{level.data, level.rows, level.cols, level.stride};
    return importance_density(done, density, cutoff, p_norm);
}

}  // namespace shiftbench::cpu
