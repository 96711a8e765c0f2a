// The scalar lines of exact resampling, one source for CPU and GPU.
//
// Pillow's 8-bit arithmetic: coefficients of 22 fractional bits, a sum in 32-bit integers begun with one half,
// shifted, clipped to 0..255; the horizontal pass first, its result rounded to 8 bits, then the vertical one.
// Integers only, so the order of the additions does not matter and every device gives the same bytes.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__CUDACC__)
#define TLEDGE_LINE __host__ __device__ __forceinline__
#else
// Internal linkage: these files are compiled for several instruction sets.
#define TLEDGE_LINE static inline
#endif

namespace tledge {

constexpr int kPrecision = 22;
constexpr int32_t kHalf = 1 << (kPrecision - 1);

// 22 fractional bits to 0..255.
TLEDGE_LINE uint8_t clip(int32_t sum) {
    const int32_t value = sum >> kPrecision;
    return static_cast<uint8_t>(value < 0 ? 0 : (value > 255 ? 255 : value));
}

// One sample of either pass: `count` values `step` bytes apart, weighted.
TLEDGE_LINE uint8_t sample(const uint8_t* values, size_t step, const int32_t* weights, int count) {
    int32_t sum = kHalf;
    for (int i = 0; i < count; ++i) sum += values[i * step] * weights[i];
    return clip(sum);
}

// Normalisation and the change of type are one look-up.
template <typename T>
TLEDGE_LINE T emit(const T* table, uint8_t value) {
    return table[value];
}

}  // namespace tledge
