// Logits to the best few classes and their probabilities: the scalar lines, one source for CPU and GPU.
//
// Order: the larger logit first, of equal ones (-0 equals 0) the earlier class. It is the order of one 64-bit integer
// a class, so that any way of searching finds the same.
// A logit is divided by the temperature first, in float32. Softmax: exp(logit - largest) in float32, by the polynomial of Cephes' expf (Moshier): additions and multiplications
// that are each rounded once, no library's exp, no fused multiply-add. Its terms are summed as integers of 44
// fractional bits, so that the order of the additions does not matter; a probability is the term divided by the sum,
// rounded once each. So every device gives the same bits. Against exact arithmetic: docs/runtime.md.
// A row with a NaN or an infinity above zero, or of nothing but infinities below, has no softmax: every index is -1.
#pragma once

#include "lines.h"

namespace tledge {

constexpr int kLargestClasses = 1 << 19;  // terms of at most 2^44 each, in 63 bits
constexpr uint32_t kInfinity = 0xFF800000u, kMinusInfinity = 0x007FFFFFu;  // as ordered()
constexpr float kFixed = 17592186044416.0f;                                // 2^44
constexpr uint64_t kBeforeAll = ~static_cast<uint64_t>(0);                 // no class's key is above it

union FloatBits {
    uint32_t bits;
    float value;
};

TLEDGE_LINE float float_of(uint32_t bits) {
    FloatBits both;
    both.bits = bits;
    return both.value;
}
TLEDGE_LINE uint32_t bits_of(float value) {
    FloatBits both;
    both.value = value;
    return both.bits;
}

// A logit as float32; float16 comes as its bits, and every value of it is one of float32.
TLEDGE_LINE float logit(float value) { return value; }
TLEDGE_LINE float logit(uint16_t half) {
    const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16, rest = half & 0x7FFFu;
    if (rest >= 0x7C00u) return float_of(sign | 0x7F800000u | (rest << 13));
    if (rest >= 0x0400u) return float_of(sign | ((rest << 13) + (112u << 23)));
    const float tiny = static_cast<float>(rest) * 5.9604644775390625e-8f;  // 2^-24: zero and what is not normal
    return sign != 0 ? -tiny : tiny;
}

// What the softmax sees: the logit divided by the temperature, above 0, rounded once.
template <typename Logit>
TLEDGE_LINE float scaled(Logit value, float temperature) {
    return logit(value) / temperature;
}

// Bits that order as the values do, NaN above all.
TLEDGE_LINE uint32_t ordered(float value) {
    if (value != value) return 0xFFFFFFFEu;  // below kBeforeAll
    const uint32_t bits = value == 0.0f ? 0u : bits_of(value);
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// Unique to a class; the larger comes first. Never 0.
TLEDGE_LINE uint64_t key_of(float value, int index) {
    return static_cast<uint64_t>(ordered(value)) << 32 | ~static_cast<uint32_t>(index);
}
TLEDGE_LINE int index_of(uint64_t key) { return static_cast<int>(~static_cast<uint32_t>(key)); }
TLEDGE_LINE float value_of(uint64_t key) {
    const uint32_t bits = static_cast<uint32_t>(key >> 32);
    return float_of((bits & 0x80000000u) != 0 ? bits ^ 0x80000000u : ~bits);
}

// Whether the row whose first key this is has a softmax.
TLEDGE_LINE bool has_softmax(uint64_t first) {
    const uint32_t bits = static_cast<uint32_t>(first >> 32);
    return bits < kInfinity && bits > kMinusInfinity;
}

// exp of x, at most 0. Below -87, where float32 ends, it is 0.
TLEDGE_LINE float exponential(float x) {
    if (!(x >= -87.0f)) return 0.0f;
    const int power = static_cast<int>(x * 1.44269504088896341f - 0.5f);  // the nearest: x is not above 0
    const float whole = static_cast<float>(power);
    const float r = (x - whole * 0.693359375f) - whole * -2.12194440e-4f;  // ln 2 in two parts
    float y = 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = (y * (r * r) + r) + 1.0f;
    return y * float_of(static_cast<uint32_t>(power + 127) << 23);
}

// A term of the sum.
TLEDGE_LINE int64_t term(float value, float largest) {
    return static_cast<int64_t>(exponential(value - largest) * kFixed);
}

TLEDGE_LINE float probability(float value, float largest, int64_t sum) {
    return exponential(value - largest) / (static_cast<float>(sum) * (1.0f / kFixed));
}

}  // namespace tledge
