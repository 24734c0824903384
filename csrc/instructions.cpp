// Finds out which instruction sets this CPU and its operating system can run, of those for which the core is compiled.
#include "shiftbench/instructions.h"

namespace shiftbench::cpu {

// The tables that csrc/kernels/exact.cpp defines, one for each instruction set.
// clang-format off: one instruction set per line, the fastest first.
namespace avx512_vnni { extern const Kernels kernels; }
namespace avx512 { extern const Kernels kernels; }
namespace avx2 { extern const Kernels kernels; }
namespace neon { extern const Kernels kernels; }
namespace baseline { extern const Kernels kernels; }
// clang-format on

const std::vector<const Kernels*>& instructions() {
    static const std::vector<const Kernels*> can_run = [] {
        std::vector<const Kernels*> found;
#ifdef __x86_64__
        __builtin_cpu_init();
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
            if (__builtin_cpu_supports("avx512vnni")) found.push_back(&avx512_vnni::kernels);
            found.push_back(&avx512::kernels);
        }
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&avx2::kernels);
#endif
#ifdef __aarch64__
        found.push_back(&neon::kernels);  // every 64-bit Arm CPU has it
#else
        found.push_back(&baseline::kernels);
#endif
        return found;
    }();
    return can_run;
}

bool is_intel() {
#ifdef __x86_64__
    __builtin_cpu_init();
    return __builtin_cpu_is("intel");
#else
    return false;
#endif
}

}  // namespace shiftbench::cpu
