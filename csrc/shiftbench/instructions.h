// The instruction set in use: the best that this CPU can run, chosen when the core is loaded. One build serves every
// CPU, and nothing but speed depends on the choice.
#pragma once

#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "kernels.h"

namespace shiftbench::cpu {

// What this CPU can run, the fastest first.
const std::vector<const Kernels*>& instructions();

// Whether the CPU is Intel's: some libraries use all of an instruction set on these alone.
bool is_intel();

inline std::atomic<const Kernels*> chosen_instructions{instructions().front()};

inline const Kernels& kernels() { return *chosen_instructions.load(std::memory_order_relaxed); }

// For tests, which compare them.
inline void set_instructions(const std::string& name) {
    for (const Kernels* one : instructions())
        if (one->name == name) return chosen_instructions.store(one);
    throw std::invalid_argument("_C: this CPU or this build has no instructions named '" + name + "'");
}

// The inner product of x and y, summed in type A in one fixed order.
template <class A, class X, class Y>
A dot(const X* x, const Y* y, std::int64_t n) {
    return std::get<Dot<A, X, Y>>(kernels().dots)(x, y, n);
}

}  // namespace shiftbench::cpu
