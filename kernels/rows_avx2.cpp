// AVX2 (x86 since Haswell and Zen): 16-bit dot products on weights of two halves.
//
// A group is four source rows: two pairs, each of samples of two 16-bit values, one a row. So both passes
// multiply two values of one sample in one step of `vpmaddwd`: two taps of a row, then two rows of a column.
#include <immintrin.h>

#include "lines.h"
#include "rows.h"

namespace tledge {
namespace {

constexpr int kRows = 4;

// Whole steps of 24 samples for the vertical pass, and the tail of the last store of the horizontal one.
size_t pair_bytes(int width) { return (static_cast<size_t>(3 * width) + 23) / 24 * 24 * 4 + 32; }

size_t group_bytes(int width) { return 2 * pair_bytes(width); }

struct Sums {
    __m256i low = _mm256_set1_epi32(kHalf), high = _mm256_setzero_si256();

    inline void add(__m256i values, __m256i low_half, __m256i high_half) {
        low = _mm256_add_epi32(low, _mm256_madd_epi16(values, low_half));
        high = _mm256_add_epi32(high, _mm256_madd_epi16(values, high_half));
    }
    inline __m256i value() const {
        return _mm256_srai_epi32(_mm256_add_epi32(low, _mm256_slli_epi32(high, 11)), kPrecision);
    }
};

inline __m256i two_rows(const uint8_t* a, const uint8_t* b) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a))),
                                   _mm_loadu_si128(reinterpret_cast<const __m128i*>(b)), 1);
}

// Rows 0 and 1 in the lanes of one vector, 2 and 3 in the other's: clipped, as 16-bit values, row beside row.
inline void store_pairs(__m256i rows01, __m256i rows23, uint8_t* first, uint8_t* second) {
    const __m256i words = _mm256_packs_epi32(rows01, rows23);
    const __m256i clipped = _mm256_min_epi16(_mm256_max_epi16(words, _mm256_setzero_si256()), _mm256_set1_epi16(255));
    const __m128i even = _mm256_castsi256_si128(clipped), odd = _mm256_extracti128_si256(clipped, 1);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(first), _mm_unpacklo_epi16(even, odd));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(second), _mm_unpackhi_epi16(even, odd));
}

void horizontal(const HorizontalTable& table, const uint8_t* const* rows, uint8_t* group) {
    // Taps 0 and 1, then 2 and 3, of each channel as 16-bit values.
    const __m256i front = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    const __m256i back = _mm256_broadcastsi128_si256(_mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1));
    uint8_t* second = group + pair_bytes(table.width);
    for (int x = 0; x < table.width; ++x) {
        const int32_t* halves = table.weights + static_cast<size_t>(x) * table.stride;
        size_t offset = 3 * static_cast<size_t>(table.first[x]);
        Sums sums[2];
        int pairs = table.count[x];
        for (; pairs >= 2; pairs -= 2, halves += 4, offset += 12) {
            const __m256i low01 = _mm256_set1_epi32(halves[0]), high01 = _mm256_set1_epi32(halves[1]);
            const __m256i low23 = _mm256_set1_epi32(halves[2]), high23 = _mm256_set1_epi32(halves[3]);
            for (int i = 0; i < 2; ++i) {
                const __m256i bytes = two_rows(rows[2 * i] + offset, rows[2 * i + 1] + offset);
                sums[i].add(_mm256_shuffle_epi8(bytes, front), low01, high01);
                sums[i].add(_mm256_shuffle_epi8(bytes, back), low23, high23);
            }
        }
        if (pairs != 0) {
            const __m256i low = _mm256_set1_epi32(halves[0]), high = _mm256_set1_epi32(halves[1]);
            for (int i = 0; i < 2; ++i) {
                const __m256i bytes = two_rows(rows[2 * i] + offset, rows[2 * i + 1] + offset);
                sums[i].add(_mm256_shuffle_epi8(bytes, front), low, high);
            }
        }
        const size_t at = 12 * static_cast<size_t>(x);
        store_pairs(sums[0].value(), sums[1].value(), group + at, second + at);
    }
}

struct Samples24 {
    __m128i first16, last8;
};

// 24 samples (8 pixels) from sample `at` on, clipped.
inline Samples24 eight(const VerticalTable& table, int row, const uint8_t* const* groups, size_t at) {
    const int32_t* weights = table.weights + static_cast<size_t>(row) * table.stride;
    const size_t second = pair_bytes(table.width);
    const int odd = table.unit[row] & 1;
    Sums sums[3];
    for (int unit = 0; unit < table.units[row]; ++unit, weights += 2) {
        const __m256i low = _mm256_set1_epi32(weights[0]), high = _mm256_set1_epi32(weights[1]);
        const int pair = unit + odd;
        const uint8_t* from = groups[pair >> 1] + (pair & 1) * second + 4 * at;
        for (int i = 0; i < 3; ++i) {
            sums[i].add(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 32 * i)), low, high);
        }
    }
    const auto words = [](__m256i value) {
        return _mm_packs_epi32(_mm256_castsi256_si128(value), _mm256_extracti128_si256(value, 1));
    };
    const __m128i last = words(sums[2].value());
    return {_mm_packus_epi16(words(sums[0].value()), words(sums[1].value())), _mm_packus_epi16(last, last)};
}

void vertical(const VerticalTable& table, int row, const uint8_t* const* groups, uint8_t* const* planes) {
    // Of 16 samples, those of channel c; of the 8 that follow, the rest.
    const __m128i first[3] = {_mm_setr_epi8(0, 3, 6, 9, 12, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1),
                              _mm_setr_epi8(1, 4, 7, 10, 13, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1),
                              _mm_setr_epi8(2, 5, 8, 11, 14, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1)};
    const __m128i rest[3] = {_mm_setr_epi8(-1, -1, -1, -1, -1, -1, 2, 5, -1, -1, -1, -1, -1, -1, -1, -1),
                             _mm_setr_epi8(-1, -1, -1, -1, -1, 0, 3, 6, -1, -1, -1, -1, -1, -1, -1, -1),
                             _mm_setr_epi8(-1, -1, -1, -1, -1, 1, 4, 7, -1, -1, -1, -1, -1, -1, -1, -1)};
    for (int x = 0; x < table.width; x += 8) {
        const Samples24 samples = eight(table, row, groups, 3 * static_cast<size_t>(x));
        for (int c = 0; c < 3; ++c) {
            const __m128i plane = _mm_or_si128(_mm_shuffle_epi8(samples.first16, first[c]),
                                               _mm_shuffle_epi8(samples.last8, rest[c]));
            _mm_storel_epi64(reinterpret_cast<__m128i*>(planes[c] + x), plane);
        }
    }
}

void vertical_interleaved(const VerticalTable& table, int row, const uint8_t* const* groups, uint8_t* samples) {
    for (int x = 0; x < table.width; x += 8) {
        const Samples24 made = eight(table, row, groups, 3 * static_cast<size_t>(x));
        uint8_t* to = samples + 3 * static_cast<size_t>(x);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), made.first16);
        _mm_storel_epi64(reinterpret_cast<__m128i*>(to + 16), made.last8);
    }
}

void emit(const EmissionTable& table, int channel, const uint8_t* values, int count, void* out) {
    if (table.bytes != 4 || table.exact[channel] == 0) {
        kScalar.emit(table, channel, values, count, out);
        return;
    }
    // A look-up costs about a cycle an entry; eight products in double precision, rounded once, cost three.
    const __m256d slope = _mm256_set1_pd(table.lines[2 * channel]);
    const __m256d offset = _mm256_set1_pd(table.lines[2 * channel + 1]);
    const auto four = [&](__m128i levels) {
        return _mm256_cvtpd_ps(_mm256_fmadd_pd(_mm256_cvtepi32_pd(levels), slope, offset));
    };
    float* target = static_cast<float*>(out);
    int i = 0;
    for (; i + 8 <= count; i += 8) {
        const __m128i levels = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(values + i));
        _mm_storeu_ps(target + i, four(_mm_cvtepu8_epi32(levels)));
        _mm_storeu_ps(target + i + 4, four(_mm_cvtepu8_epi32(_mm_srli_epi64(levels, 32))));
    }
    kScalar.emit(table, channel, values + i, count - i, target + i);
}

}  // namespace

const RowKernels kAvx2 = {"avx2", kRows, 2, Digits::halves, 0, 16, group_bytes, horizontal, vertical,
                          vertical_interleaved, emit};

}  // namespace tledge
