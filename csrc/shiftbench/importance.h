// Importance of prompt tokens for response tokens: gradient x input, its levels, and their density
// (docs/mathematics.md, "Attribution of a response to its prompt").
// Shapes, for P prompt tokens, R response tokens and model width D: grad [R, P, D], embedding [P, D],
// importance and level [P, R], density [P].
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

// importance[p, r] = grad[r, p, :] . embedding[p, :], summed in the fixed order of `dot`. One pass over the gradients.
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

// level[p, r] = ceil(levels * (a[p, r] / (max over p of a[p, r] + level_eps))) with a = max(0, importance). levels: 1
// to 255. Returns the lowest flat index p * R + r of an importance that is not finite (the levels are then undefined),
// or -1 if all are finite. Two passes over the importances: one finds the largest of every column, one writes the
// levels. A thread works on a range of columns, row by row, so that it reads memory in order.
template <class T>
std::int64_t importance_levels(Rows<const T> importance, Rows<std::uint8_t> level, int levels) {
    LowestIndex bad;
    parallel_for(importance.cols, grain_of(importance.rows), [&](std::int64_t begin, std::int64_t end) {
        std::vector<double> largest(static_cast<std::size_t>(end - begin), 0.0);
        for (std::int64_t p = 0; p < importance.rows; ++p)
            for (std::int64_t r = begin; r < end; ++r) {
                const double value = importance[p][r];
                if (!std::isfinite(value)) return bad.report(p * importance.cols + r);
                auto& column_largest = largest[static_cast<std::size_t>(r - begin)];
                column_largest = std::max(column_largest, value);
            }
        for (std::int64_t p = 0; p < importance.rows; ++p)
            for (std::int64_t r = begin; r < end; ++r)
                level[p][r] = level_of(importance[p][r], largest[static_cast<std::size_t>(r - begin)], levels);
    });
    return bad.get();
}

// density[p] = ratio[p] / (max of ratio + density_eps), where ratio[p] = l1 / (lp + density_eps). l1 is the sum of row
// p of `level`, and lp the norm of that row of order p_norm; levels at or below `cutoff` count as 0. The density is 0
// where the whole row counts as 0. Returns the lowest flat index p * R + r of a level that is negative or not finite
// (the densities are then undefined), or -1 if there is none. One pass over the levels.
template <class T, class Out>
std::int64_t importance_density(Rows<const T> level, Out* density, int cutoff, double p_norm) {
    LowestIndex bad;
    std::vector<double> ratio(static_cast<std::size_t>(level.rows));
    constexpr std::int64_t cost_per_level = 16;  // in elementary operations; most are those of std::pow
    parallel_for(level.rows, grain_of(cost_per_level * level.cols), [&](std::int64_t begin, std::int64_t end) {
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

// Computes what grad_x_input, importance_levels and importance_density compute one after another, in one pass over the
// gradients; densities have the type of the importances. The levels of a response token are computed while its
// importances are still in cache, since there is one importance for D elements of the gradients. Returns the lowest
// flat index p * R + r of an importance that is not finite (levels and densities are then undefined), or -1 if all are
// finite.
template <class T>
std::int64_t importance_density_from_grad(Planes<const T> grad, Rows<const T> embedding,
                                          Rows<accumulator_t<T>> importance, Rows<std::uint8_t> level,
                                          accumulator_t<T>* density, int levels, int cutoff, double p_norm) {
    LowestIndex bad;
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
    const Rows<const std::uint8_t> finished{level.data, level.rows, level.cols, level.stride};
    return importance_density(finished, density, cutoff, p_norm);
}

}  // namespace shiftbench::cpu
