// AVX2: the horizontal pass of planes of luma and of chroma, whose pairs lie interleaved. A group is sixteen source rows, so that a
// weight is loaded once for two vectors of samples.
#include "frame.h"
#include "pairs_avx2.h"

namespace tledge {
namespace {

constexpr int kRows = 16;
constexpr int kRowPairs = kRows / 2;

size_t group_bytes(int width) { return kRowPairs * pair_bytes(width); }

// `count` pairs of eight rows from byte `offset` on, eight at a time; a lane a row. A pair takes two vectors, of sixteen rows.
void lay_out_luma(const uint8_t* const* rows, size_t offset, int count, __m256i* pairs) {
    const __m256i zero = _mm256_setzero_si256();
    for (; count > 0; count -= 8, offset += 16, pairs += 16) {
        __m256i four[4], two[4], one[4];  // rows i and i + 4; pairs of two rows, then of four, in either lane
        for (int i = 0; i < 4; ++i) four[i] = two_rows(rows[i] + offset, rows[i + 4] + offset);
        for (int i = 0; i < 4; i += 2) {
            two[i] = _mm256_unpacklo_epi16(four[i], four[i + 1]);
            two[i + 1] = _mm256_unpackhi_epi16(four[i], four[i + 1]);
        }
        for (int i = 0; i < 2; ++i) {
            one[2 * i] = _mm256_unpacklo_epi32(two[i], two[i + 2]);
            one[2 * i + 1] = _mm256_unpackhi_epi32(two[i], two[i + 2]);
        }
        for (int i = 0; i < 4; ++i) {
            _mm256_store_si256(pairs + 4 * i, _mm256_unpacklo_epi8(one[i], zero));
            _mm256_store_si256(pairs + 4 * i + 2, _mm256_unpackhi_epi8(one[i], zero));
        }
    }
}

// The same of chroma, four at a time; four vectors: the first samples of eight rows, the second ones, and of eight more.
void lay_out_chroma(const uint8_t* const* rows, size_t offset, int count, __m256i* pairs) {
    const __m256i first = _mm256_set1_epi16(255);
    for (; count > 0; count -= 4, offset += 16, pairs += 16) {
        __m256i one[4];  // rows i and i + 4
        for (int i = 0; i < 4; ++i) one[i] = two_rows(rows[i] + offset, rows[i + 4] + offset);
        for (int i = 0; i < 2; ++i) {
            const __m256i upper = i == 0 ? _mm256_unpacklo_epi32(one[0], one[1]) : _mm256_unpackhi_epi32(one[0], one[1]);
            const __m256i lower = i == 0 ? _mm256_unpacklo_epi32(one[2], one[3]) : _mm256_unpackhi_epi32(one[2], one[3]);
            const __m256i both[2] = {_mm256_unpacklo_epi64(upper, lower), _mm256_unpackhi_epi64(upper, lower)};
            for (int k = 0; k < 2; ++k) {
                _mm256_store_si256(pairs + 8 * i + 4 * k, _mm256_and_si256(both[k], first));
                _mm256_store_si256(pairs + 8 * i + 4 * k + 1, _mm256_srli_epi16(both[k], 8));
            }
        }
    }
}

// Four samples of a row are stored at once, with what was there before in place of those that are still to come.
template <int count>
struct Samples {
    static constexpr int channels = count, vectors = 2 * count, tile = 128 / count;
    uint8_t* group;
    size_t apart;
    __m256i last[2][4] = {};

    static inline void lay_out(const uint8_t* const* rows, size_t offset, int pairs, __m256i* to) {
        for (int half = 0; half < 2; ++half) {
            (count == 1 ? lay_out_luma : lay_out_chroma)(rows + 8 * half, offset, pairs, to + count * half);
        }
    }

    inline void put(int x, const Column<2 * count>& column) {
        for (int half = 0; half < 2; ++half) {
            for (int c = 0; c < count; ++c) last[half][(count * x + c) & 3] = column.sums[count * half + c].value();
        }
        if (((count * x + count) & 3) == 0) end(x + 1);
    }

    // Clipped, as 16-bit values, row beside row: pairs of rows, `apart` bytes from one another.
    inline void end(int width) const {
        const __m256i most = _mm256_set1_epi16(255);
        uint8_t* to = group + 4 * static_cast<size_t>((count * width - 1) & ~3);
        for (const __m256i(&each)[4] : last) {
            const __m256 front = _mm256_castsi256_ps(_mm256_min_epu16(_mm256_packus_epi32(each[0], each[1]), most));
            const __m256 back = _mm256_castsi256_ps(_mm256_min_epu16(_mm256_packus_epi32(each[2], each[3]), most));
            const __m256i even = _mm256_castps_si256(_mm256_shuffle_ps(front, back, _MM_SHUFFLE(2, 0, 2, 0)));
            const __m256i odd = _mm256_castps_si256(_mm256_shuffle_ps(front, back, _MM_SHUFFLE(3, 1, 3, 1)));
            const __m128i rows[4] = {_mm256_castsi256_si128(even), _mm256_castsi256_si128(odd),
                                     _mm256_extracti128_si256(even, 1), _mm256_extracti128_si256(odd, 1)};
            for (int i = 0; i < 4; ++i, to += apart) _mm_storeu_si128(reinterpret_cast<__m128i*>(to), rows[i]);
        }
    }
};

void horizontal(const HorizontalTable& table, const uint8_t* const* rows, uint8_t* group) {
    const size_t apart = pair_bytes((table.channels * table.width + 2) / 3);
    if (table.channels == 1) return horizontal_to(table, rows, Samples<1>{group, apart});
    horizontal_to(table, rows, Samples<2>{group, apart});
}

}  // namespace

const RowKernels kAvx2Planes = {"avx2", kRows, 2, Digits::halves, 0, 16, group_bytes, horizontal, vertical_avx2,
                                vertical_interleaved_avx2, emit_avx2, &kFramesAvx2, nullptr};

}  // namespace tledge
