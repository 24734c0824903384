// The instruction set in use. The core contains its innermost loops once for each of several instruction sets, and the
// fastest one that this CPU can run is chosen when the module is loaded. So one build serves every CPU of its
// architecture. Results of the functions in shiftbench/ops do not depend on the choice; derivatives and activations of
// the engine do in their last bits.
#pragma once

#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "kernels.h"

namespace shiftbench::cpu {

// The tables of the instruction sets of this build that this CPU can run, the fastest first.
const std::vector<const Kernels*>& instructions();

// Whether the CPU is made by Intel; false on CPUs other than x86-64. Some libraries that torch calls use all of a CPU's
// instruction sets on Intel's CPUs only.
bool is_intel();

// The table of the instruction set in use; at first that of the fastest one.
inline std::atomic<const Kernels*> chosen_instructions{instructions().front()};

inline const Kernels& kernels() { return *chosen_instructions.load(std::memory_order_relaxed); }

// Makes the instruction set of this name the one in use. Only tests call this, to compare instruction sets. Throws
// std::invalid_argument for a name that is not among instructions().
inline void set_instructions(const std::string& name) {
    for (const Kernels* candidate : instructions())
        if (candidate->name == name) return chosen_instructions.store(candidate);
    std::string known;
    for (const Kernels* candidate : instructions()) known += std::string(known.empty() ? "" : ", ") + candidate->name;
    throw std::invalid_argument("_C: no instruction set '" + name + "' in this build on this CPU; there are: " + known);
}

// The inner product of x and y, n elements each, summed in type A in the fixed order that formulas.h describes.
template <class A, class X, class Y>
A dot(const X* x, const Y* y, std::int64_t n) {
    return std::get<Dot<A, X, Y>>(kernels().dots)(x, y, n);
}

}  // namespace shiftbench::cpu
