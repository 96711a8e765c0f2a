// Which instruction sets there are, and which of them this machine runs.
#include "rows.h"

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace tledge {
namespace {

const RowKernels* const kSets[] = {
#if defined(__x86_64__)
    &kAvx512Vnni, &kAvx2,
#elif defined(__aarch64__)
    &kNeon,
#endif
    &kScalar,
};
constexpr int kCount = sizeof kSets / sizeof kSets[0];

}  // namespace

int row_kernels_count() { return kCount; }

const RowKernels* row_kernels(int index) { return index >= 0 && index < kCount ? kSets[index] : nullptr; }

bool row_kernels_run_here(int index) {
    const RowKernels* set = row_kernels(index);
    if (set == nullptr) return false;
#if defined(__x86_64__)
    if (set == &kAvx512Vnni) {
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") &&
               __builtin_cpu_supports("avx512vnni");
    }
    if (set == &kAvx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#elif defined(__aarch64__)
    constexpr unsigned long kDotProduct = 1ul << 20;  // HWCAP_ASIMDDP
    if (set == &kNeon) return (getauxval(AT_HWCAP) & kDotProduct) != 0;
#endif
    return true;
}

}  // namespace tledge
