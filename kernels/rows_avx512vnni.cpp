// AVX-512 with VBMI and VNNI (Intel since Ice Lake, AMD since Zen 4): byte dot products on weights of three
// signed digits.
//
// A group is four source rows: samples, each four bytes, one a row. So both passes multiply four bytes of one
// sample in one step of `vpdpbusd`: four taps of a row, then four rows of a column.
#include <immintrin.h>
#include <string.h>

#include "frame.h"
#include "lines.h"
#include "rows.h"

namespace tledge {
namespace {

constexpr int kRows = 4;
constexpr int kLanes = 16;

size_t group_bytes(int width) {
    // Whole steps of 48 samples for the vertical pass, and the tail of the last store of horizontal_outputs.
    return (static_cast<size_t>(3 * width) + 47) / 48 * 48 * kRows + 64;
}

inline __m512i dot(__m512i sum, __m512i bytes, __m512i digits) { return _mm512_dpbusd_epi32(sum, bytes, digits); }

// The three digits' sums put together, shifted, not yet clipped.
inline __m512i join(__m512i low, __m512i middle, __m512i high) {
    const __m512i upper = _mm512_add_epi32(middle, _mm512_slli_epi32(high, 8));
    return _mm512_srai_epi32(_mm512_add_epi32(low, _mm512_slli_epi32(upper, 8)), kPrecision);
}

struct Sums {
    __m512i low = _mm512_set1_epi32(kHalf), middle = _mm512_setzero_si512(), high = _mm512_setzero_si512();

    inline void add(__m512i bytes, __m512i digit0, __m512i digit1, __m512i digit2) {
        low = dot(low, bytes, digit0);
        middle = dot(middle, bytes, digit1);
        high = dot(high, bytes, digit2);
    }
    inline __m512i value() const { return join(low, middle, high); }
};

// The same for a single step: the digits one after the other in one sum, each shifted up by the next.
inline __m512i single(__m512i bytes, __m512i digit0, __m512i digit1, __m512i digit2) {
    const __m512i high = dot(_mm512_set1_epi32(kHalf >> 16), bytes, digit2);
    const __m512i upper = dot(_mm512_slli_epi32(high, 8), bytes, digit1);
    return _mm512_srai_epi32(dot(_mm512_slli_epi32(upper, 8), bytes, digit0), kPrecision);
}

// The source bytes of a block's quad, four to a sample: out of 64 bytes, or out of 128.
template <int span>
inline __m512i gather(const uint8_t* from, __m512i index) {
    if (span == 64) return _mm512_permutexvar_epi8(index, _mm512_loadu_si512(from));
    return _mm512_permutex2var_epi8(_mm512_loadu_si512(from), index, _mm512_loadu_si512(from + 64));
}

inline __m128i transposed() { return _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15); }

// Clips four rows of sixteen sums, and puts the rows of each sample together.
inline __m512i clip_rows(const __m512i (&rows)[kRows], __m512i transpose) {
    const __m512i bytes = _mm512_packus_epi16(_mm512_packs_epi32(rows[0], rows[1]), _mm512_packs_epi32(rows[2], rows[3]));
    return _mm512_shuffle_epi8(bytes, transpose);
}

template <int span>
void horizontal_blocks(const HorizontalTable& table, const uint8_t* const* rows, uint8_t* group) {
    const __m512i transpose = _mm512_broadcast_i32x4(transposed());
    for (int b = 0; b < table.blocks; ++b) {
        const __m512i index = _mm512_load_si512(table.index + 64 * static_cast<size_t>(b));
        const int32_t* digits = table.weights + table.at[b];
        size_t offset = table.base[b];
        if (table.quads[b] == 1) {
            const __m512i digit0 = _mm512_load_si512(digits), digit1 = _mm512_load_si512(digits + kLanes),
                          digit2 = _mm512_load_si512(digits + 2 * kLanes);
            __m512i values[kRows];
            for (int r = 0; r < kRows; ++r) {
                values[r] = single(gather<span>(rows[r] + offset, index), digit0, digit1, digit2);
            }
            _mm512_storeu_si512(group + 64 * static_cast<size_t>(b), clip_rows(values, transpose));
            continue;
        }
        Sums sums[kRows];
        for (int quad = 0; quad < table.quads[b]; ++quad, digits += 3 * kLanes, offset += 12) {
            const __m512i digit0 = _mm512_load_si512(digits), digit1 = _mm512_load_si512(digits + kLanes),
                          digit2 = _mm512_load_si512(digits + 2 * kLanes);
            for (int r = 0; r < kRows; ++r) sums[r].add(gather<span>(rows[r] + offset, index), digit0, digit1, digit2);
        }
        const __m512i values[kRows] = {sums[0].value(), sums[1].value(), sums[2].value(), sums[3].value()};
        _mm512_storeu_si512(group + 64 * static_cast<size_t>(b), clip_rows(values, transpose));
    }
}

inline __m512i load_rows(const uint8_t* const* rows, size_t offset) {
    const auto row = [&](int r) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[r] + offset)); };
    __m512i bytes = _mm512_castsi128_si512(row(0));
    bytes = _mm512_inserti32x4(bytes, row(1), 1);
    bytes = _mm512_inserti32x4(bytes, row(2), 2);
    return _mm512_inserti32x4(bytes, row(3), 3);
}

// One pixel of four rows at a time, for scales at which a block's bytes lie too far apart.
void horizontal_outputs(const HorizontalTable& table, const uint8_t* const* rows, uint8_t* group) {
    const __m512i by_channel =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1));
    for (int x = 0; x < table.width; ++x) {
        const int32_t* digits = table.weights + static_cast<size_t>(x) * table.stride;
        size_t offset = 3 * static_cast<size_t>(table.first[x]);
        Sums sums;
        for (int quad = 0; quad < table.count[x]; ++quad, digits += 3, offset += 12) {
            const __m512i bytes = _mm512_shuffle_epi8(load_rows(rows, offset), by_channel);
            sums.add(bytes, _mm512_set1_epi32(digits[0]), _mm512_set1_epi32(digits[1]), _mm512_set1_epi32(digits[2]));
        }
        const __m512i positive = _mm512_max_epi32(sums.value(), _mm512_setzero_si512());
        const __m128i bytes = _mm_shuffle_epi8(_mm512_cvtusepi32_epi8(positive), transposed());
        _mm_storeu_si128(reinterpret_cast<__m128i*>(group + 12 * static_cast<size_t>(x)), bytes);
    }
}

void horizontal(const HorizontalTable& table, const uint8_t* const* rows, uint8_t* group) {
    if (table.blocks == 0) {
        horizontal_outputs(table, rows, group);
    } else if (table.span == 64) {
        horizontal_blocks<64>(table, rows, group);
    } else {
        horizontal_blocks<128>(table, rows, group);
    }
}

// Sixteen pixels (48 samples) from `at` on: clipped, in the order that `order` picks.
inline __m512i sixteen(const int32_t* weights, int units, const uint8_t* const* groups, size_t at, __m512i order) {
    Sums sums[3];
    for (int unit = 0; unit < units; ++unit, weights += 3) {
        const __m512i digit0 = _mm512_set1_epi32(weights[0]), digit1 = _mm512_set1_epi32(weights[1]),
                      digit2 = _mm512_set1_epi32(weights[2]);
        const uint8_t* from = groups[unit] + kRows * at;
        for (int i = 0; i < 3; ++i) sums[i].add(_mm512_loadu_si512(from + 64 * i), digit0, digit1, digit2);
    }
    const __m512i words = _mm512_packs_epi32(sums[0].value(), sums[1].value());
    const __m512i last = _mm512_packs_epi32(sums[2].value(), _mm512_setzero_si512());
    return _mm512_permutexvar_epi8(order, _mm512_packus_epi16(words, last));
}

// Where the packs of `sixteen` leave sample s.
constexpr uint8_t place(int s) { return static_cast<uint8_t>((s % 16) / 4 * 16 + s / 16 * 4 + s % 4); }

void vertical(const VerticalTable& table, int row, const uint8_t* const* groups, uint8_t* const* planes) {
    uint8_t index[64] = {};
    for (int s = 0; s < 48; ++s) index[s % 3 * 16 + s / 3] = place(s);
    const __m512i order = _mm512_loadu_si512(index);
    const int32_t* weights = table.weights + static_cast<size_t>(row) * table.stride;
    for (int x = 0; x < table.width; x += 16) {
        const __m512i bytes = sixteen(weights, table.units[row], groups, 3 * static_cast<size_t>(x), order);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(planes[0] + x), _mm512_castsi512_si128(bytes));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(planes[1] + x), _mm512_extracti32x4_epi32(bytes, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(planes[2] + x), _mm512_extracti32x4_epi32(bytes, 2));
    }
}

void vertical_interleaved(const VerticalTable& table, int row, const uint8_t* const* groups, uint8_t* samples) {
    uint8_t index[64] = {};
    for (int s = 0; s < 48; ++s) index[s] = place(s);
    const __m512i order = _mm512_loadu_si512(index);
    const int32_t* weights = table.weights + static_cast<size_t>(row) * table.stride;
    for (int x = 0; x < table.width; x += 16) {
        const __m512i bytes = sixteen(weights, table.units[row], groups, 3 * static_cast<size_t>(x), order);
        _mm512_mask_storeu_epi8(samples + 3 * static_cast<size_t>(x), (1ull << 48) - 1, bytes);
    }
}

// A byte look-up in 256 entries: two in 128, and the index's top bit chooses.
struct Bytes256 {
    explicit Bytes256(const uint8_t* plane)
        : a(_mm512_load_si512(plane)), b(_mm512_load_si512(plane + 64)), c(_mm512_load_si512(plane + 128)),
          d(_mm512_load_si512(plane + 192)) {}

    inline __m512i of(__m512i values, __mmask64 upper) const {
        const __m512i low = _mm512_permutex2var_epi8(a, values, b);
        return _mm512_mask_blend_epi8(upper, low, _mm512_permutex2var_epi8(c, values, d));
    }

    __m512i a, b, c, d;
};

// Stores the first `count` elements of 64, given as four vectors in order (16 of 4 bytes, or two of 32 of 2).
inline void store(uint8_t* out, __m512i vector, int bytes) {
    if (bytes >= 64) {
        _mm512_storeu_si512(out, vector);
    } else if (bytes > 0) {
        _mm512_mask_storeu_epi8(out, (1ull << bytes) - 1, vector);
    }
}

// Bytes are spread over the 128-bit lanes beforehand, so that unpacking leaves whole vectors in order.
inline __m512i spread(const uint8_t* values, int count, __m512i order) {
    const __mmask64 used = count >= 64 ? ~0ull : (1ull << count) - 1;
    return _mm512_permutexvar_epi32(order, _mm512_maskz_loadu_epi8(used, values));
}

void emit4(const uint8_t* planes, const uint8_t* values, int count, uint8_t* out) {
    const Bytes256 p0(planes), p1(planes + 256), p2(planes + 512), p3(planes + 768);
    // 4 x 4 words transposed: lane l of the spread bytes holds words l, l + 4, l + 8, l + 12.
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for (int i = 0; i < count; i += 64) {
        const __m512i v = spread(values + i, count - i, order);
        const __mmask64 upper = _mm512_movepi8_mask(v);
        const __m512i b0 = p0.of(v, upper), b1 = p1.of(v, upper), b2 = p2.of(v, upper), b3 = p3.of(v, upper);
        const __m512i low01 = _mm512_unpacklo_epi8(b0, b1), high01 = _mm512_unpackhi_epi8(b0, b1);
        const __m512i low23 = _mm512_unpacklo_epi8(b2, b3), high23 = _mm512_unpackhi_epi8(b2, b3);
        uint8_t* to = out + 4 * static_cast<size_t>(i);
        const int bytes = 4 * (count - i);
        store(to, _mm512_unpacklo_epi16(low01, low23), bytes);
        store(to + 64, _mm512_unpackhi_epi16(low01, low23), bytes - 64);
        store(to + 128, _mm512_unpacklo_epi16(high01, high23), bytes - 128);
        store(to + 192, _mm512_unpackhi_epi16(high01, high23), bytes - 192);
    }
}

void emit2(const uint8_t* planes, const uint8_t* values, int count, uint8_t* out) {
    const Bytes256 p0(planes), p1(planes + 256);
    // 8-byte halves: lane l holds halves l and l + 4.
    const __m512i order = _mm512_setr_epi32(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15);
    for (int i = 0; i < count; i += 64) {
        const __m512i v = spread(values + i, count - i, order);
        const __mmask64 upper = _mm512_movepi8_mask(v);
        const __m512i b0 = p0.of(v, upper), b1 = p1.of(v, upper);
        uint8_t* to = out + 2 * static_cast<size_t>(i);
        const int bytes = 2 * (count - i);
        store(to, _mm512_unpacklo_epi8(b0, b1), bytes);
        store(to + 64, _mm512_unpackhi_epi8(b0, b1), bytes - 64);
    }
}

void emit1(const uint8_t* planes, const uint8_t* values, int count, uint8_t* out) {
    const Bytes256 p0(planes);
    for (int i = 0; i < count; i += 64) {
        const __mmask64 used = count - i >= 64 ? ~0ull : (1ull << (count - i)) - 1;
        const __m512i v = _mm512_maskz_loadu_epi8(used, values + i);
        store(out + i, p0.of(v, _mm512_movepi8_mask(v)), count - i);
    }
}

void emit(const EmissionTable& table, int channel, const uint8_t* values, int count, void* out) {
    const uint8_t* planes = table.planes + 1024 * static_cast<size_t>(channel);
    uint8_t* target = static_cast<uint8_t*>(out);
    if (table.bytes == 4) {
        emit4(planes, values, count, target);
    } else if (table.bytes == 2) {
        emit2(planes, values, count, target);
    } else {
        emit1(planes, values, count, target);
    }
}

}  // namespace

const RowKernels kAvx512Vnni = {"avx512-vnni", kRows, kRows, Digits::signed_bytes, 128, 16, group_bytes, horizontal,
                                vertical, vertical_interleaved, emit, &kFramesAvx2, &kAvx2Planes};

}  // namespace tledge
