// NEON with dot products (Armv8.2: Jetson Xavier, Orin and Thor, Graviton 2, Apple): `sdot` on weights of three
// signed digits.
//
// `sdot` takes signed bytes, so a value v goes in as v - 128 (its top bit flipped), and each sum begins with the
// 128 times the sum of weights that this takes away: the tables' bias. A group is four source rows: samples,
// each four (flipped) bytes, one a row, as in rows_avx512vnni.cpp.
#include <arm_neon.h>

#include <cstring>

#include "lines.h"
#include "rows.h"

namespace tledge {
namespace {

constexpr int kRows = 4;

size_t group_bytes(int width) {
    // Whole steps of 48 samples for the vertical pass, and the tail of the last store of the horizontal one.
    return (static_cast<size_t>(3 * width) + 47) / 48 * 48 * kRows + 64;
}

inline uint8x16_t flip(uint8x16_t bytes) { return veorq_u8(bytes, vdupq_n_u8(128)); }

// Three digits as the first three 32-bit lanes.
inline int8x16_t three_digits(const int32_t* digits) {
    const int32x4_t words = {digits[0], digits[1], digits[2], 0};
    return vreinterpretq_s8_s32(words);
}

struct Sums {
    explicit Sums(int32_t bias) : low(vdupq_n_s32(bias)), middle(vdupq_n_s32(0)), high(vdupq_n_s32(0)) {}

    inline void add(uint8x16_t flipped, int8x16_t digits) {
        const int8x16_t bytes = vreinterpretq_s8_u8(flipped);
        low = vdotq_laneq_s32(low, bytes, digits, 0);
        middle = vdotq_laneq_s32(middle, bytes, digits, 1);
        high = vdotq_laneq_s32(high, bytes, digits, 2);
    }
    inline int16x4_t value() const {
        const int32x4_t upper = vaddq_s32(middle, vshlq_n_s32(high, 8));
        return vqmovn_s32(vshrq_n_s32(vaddq_s32(low, vshlq_n_s32(upper, 8)), kPrecision));
    }

    int32x4_t low, middle, high;
};

void horizontal(const HorizontalTable& table, const uint8_t* const* rows, uint8_t* group) {
    const uint8x16_t by_channel = {0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, 255, 255, 255, 255};
    const uint8x16_t transposed = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
    for (int x = 0; x < table.width; ++x) {
        const int32_t* weights = table.weights + static_cast<size_t>(x) * table.stride;
        size_t offset = 3 * static_cast<size_t>(table.first[x]);
        const Sums fresh(table.bias[x]);
        Sums sums[kRows] = {fresh, fresh, fresh, fresh};
        for (int quad = 0; quad < table.count[x]; ++quad, weights += 3, offset += 12) {
            const int8x16_t digits = three_digits(weights);
            for (int r = 0; r < kRows; ++r) {
                sums[r].add(flip(vqtbl1q_u8(vld1q_u8(rows[r] + offset), by_channel)), digits);
            }
        }
        const uint8x8_t upper = vqmovun_s16(vcombine_s16(sums[0].value(), sums[1].value()));
        const uint8x8_t lower = vqmovun_s16(vcombine_s16(sums[2].value(), sums[3].value()));
        const uint8x16_t bytes = vqtbl1q_u8(vcombine_u8(upper, lower), transposed);
        vst1q_u8(group + 12 * static_cast<size_t>(x), flip(bytes));
    }
}

inline uint8x16_t load_lanes(const uint8_t* const* rows, size_t offset) {
    uint32_t words[kRows];
    for (int r = 0; r < kRows; ++r) std::memcpy(words + r, rows[r] + offset, sizeof words[r]);
    return vreinterpretq_u8_u32(vld1q_u32(words));
}

// Four taps of luma are four bytes of a row: a lane.
void horizontal_luma(const HorizontalTable& table, const uint8_t* const* rows, uint8_t* group) {
    for (int x = 0; x < table.width; ++x) {
        const int32_t* weights = table.weights + static_cast<size_t>(x) * table.stride;
        size_t offset = static_cast<size_t>(table.first[x]);
        Sums sums(table.bias[x]);
        for (int quad = 0; quad < table.count[x]; ++quad, weights += 3, offset += 4) {
            sums.add(flip(load_lanes(rows, offset)), three_digits(weights));
        }
        const uint8x8_t bytes = vqmovun_s16(vcombine_s16(sums.value(), sums.value()));
        vst1_u8(group + 4 * static_cast<size_t>(x), veor_u8(bytes, vdup_n_u8(128)));
    }
}

// Four taps of chroma are eight bytes of a row: a lane for either sample of a pair.
void horizontal_chroma(const HorizontalTable& table, const uint8_t* const* rows, uint8_t* group) {
    const uint8x16_t by_sample = {0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15};
    const uint8x8_t by_row = {0, 2, 4, 6, 1, 3, 5, 7};
    for (int x = 0; x < table.width; ++x) {
        const int32_t* weights = table.weights + static_cast<size_t>(x) * table.stride;
        size_t offset = 2 * static_cast<size_t>(table.first[x]);
        const Sums fresh(table.bias[x]);
        Sums sums[2] = {fresh, fresh};  // of two rows each
        for (int quad = 0; quad < table.count[x]; ++quad, weights += 3, offset += 8) {
            const int8x16_t digits = three_digits(weights);
            for (int i = 0; i < 2; ++i) {
                const uint8x16_t both = vcombine_u8(vld1_u8(rows[2 * i] + offset), vld1_u8(rows[2 * i + 1] + offset));
                sums[i].add(flip(vqtbl1q_u8(both, by_sample)), digits);
            }
        }
        const uint8x8_t bytes = vtbl1_u8(vqmovun_s16(vcombine_s16(sums[0].value(), sums[1].value())), by_row);
        vst1_u8(group + 8 * static_cast<size_t>(x), veor_u8(bytes, vdup_n_u8(128)));
    }
}

void horizontal_planes(const HorizontalTable& table, const uint8_t* const* rows, uint8_t* group) {
    if (table.channels == 1) return horizontal_luma(table, rows, group);
    horizontal_chroma(table, rows, group);
}

// Sixteen samples from `at` on, clipped.
inline uint8x16_t sixteen(const VerticalTable& table, int row, const uint8_t* const* groups, size_t at) {
    const int32_t* weights = table.weights + static_cast<size_t>(row) * table.stride;
    const Sums fresh(table.bias[row]);
    Sums sums[4] = {fresh, fresh, fresh, fresh};
    for (int unit = 0; unit < table.units[row]; ++unit, weights += 3) {
        const int8x16_t digits = three_digits(weights);
        const uint8_t* from = groups[unit] + kRows * at;
        for (int i = 0; i < 4; ++i) sums[i].add(vld1q_u8(from + 16 * i), digits);
    }
    const uint8x8_t first = vqmovun_s16(vcombine_s16(sums[0].value(), sums[1].value()));
    return vcombine_u8(first, vqmovun_s16(vcombine_s16(sums[2].value(), sums[3].value())));
}

void vertical(const VerticalTable& table, int row, const uint8_t* const* groups, uint8_t* const* planes) {
    uint8_t samples[48];
    for (int x = 0; x < table.width; x += 16) {
        for (int i = 0; i < 48; i += 16) {
            vst1q_u8(samples + i, sixteen(table, row, groups, 3 * static_cast<size_t>(x) + i));
        }
        const uint8x16x3_t apart = vld3q_u8(samples);
        for (int c = 0; c < 3; ++c) vst1q_u8(planes[c] + x, apart.val[c]);
    }
}

void vertical_interleaved(const VerticalTable& table, int row, const uint8_t* const* groups, uint8_t* samples) {
    for (size_t i = 0; i < 3 * static_cast<size_t>(table.width); i += 16) {
        vst1q_u8(samples + i, sixteen(table, row, groups, i));
    }
}

void emit(const EmissionTable& table, int channel, const uint8_t* values, int count, void* out) {
    kScalar.emit(table, channel, values, count, out);
}

}  // namespace

const RowKernels kNeonPlanes = {"neon-dotprod", kRows, kRows, Digits::signed_bytes, 0, 16, group_bytes, horizontal_planes,
                                vertical, vertical_interleaved, emit, nullptr, nullptr};
const RowKernels kNeon = {"neon-dotprod", kRows, kRows, Digits::signed_bytes, 0, 16, group_bytes, horizontal,
                          vertical, vertical_interleaved, emit, nullptr, &kNeonPlanes};

}  // namespace tledge
