// AVX2 (x86 since Haswell and Zen): 16-bit dot products on weights of two halves.
//
// A group is eight source rows. Before the horizontal pass their pixels are laid out in pairs of neighbours, of 16-bit
// values, so that one step of `vpmaddwd` multiplies two taps of eight samples, and no sample is taken apart twice. What it
// gives is four pairs of rows, each of samples of two 16-bit values, one a row: the vertical pass multiplies two rows of a
// column in one step.
#include "frame.h"
#include "pairs_avx2.h"

namespace tledge {
namespace {

constexpr int kRows = 8;
constexpr int kRowPairs = kRows / 2;
constexpr int kChannels = 3;

size_t group_bytes(int width) { return kRowPairs * pair_bytes(width); }

// `count` pairs of pixels of eight rows from byte `offset` on, two at a time. A pair is three vectors: even rows in the lower
// lanes, odd ones in the upper; lanes of vector c are red, green and blue of rows 2 c and 2 c + 1, and channel c of rows
// 6 and 7.
void lay_out_pixels(const uint8_t* const* rows, size_t offset, int count, __m256i* pairs) {
    const auto both = [](__m128i lane) { return _mm256_broadcastsi128_si256(lane); };
    const __m256i front = both(_mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, 12, -1, 13, -1));
    const __m256i back = both(_mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, 14, -1, 15, -1));
    // One channel of four pixels, to the four bytes behind them.
    const __m256i red = both(_mm_setr_epi8(-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 3, 6, 9));
    const __m256i one = _mm256_and_si256(_mm256_set1_epi8(1), _mm256_cmpgt_epi8(red, _mm256_set1_epi8(-1)));
    const __m256i green = _mm256_add_epi8(red, one), blue = _mm256_add_epi8(green, one);
    for (; count > 0; count -= 2, offset += 12, pairs += 2 * kChannels) {
        const __m256i last = two_rows(rows[6] + offset, rows[7] + offset);
        const __m256i channels[kChannels] = {_mm256_shuffle_epi8(last, red), _mm256_shuffle_epi8(last, green),
                                             _mm256_shuffle_epi8(last, blue)};
        for (int c = 0; c < kChannels; ++c) {
            const __m256i pixels = two_rows(rows[2 * c] + offset, rows[2 * c + 1] + offset);
            const __m256i bytes = _mm256_blend_epi32(pixels, channels[c], 0x88);
            _mm256_store_si256(pairs + c, _mm256_shuffle_epi8(bytes, front));
            _mm256_store_si256(pairs + kChannels + c, _mm256_shuffle_epi8(bytes, back));
        }
    }
}

// Where columns go, clipped, as 16-bit values, row beside row: four pairs of rows, `apart` bytes from one another.
struct Pixels {
    static constexpr int channels = kChannels, vectors = kChannels, tile = 128;
    static constexpr auto lay_out = lay_out_pixels;
    uint8_t* group;
    size_t apart;

    inline void put(int x, const Column<kChannels>& column) const {
        const Sums* sums = column.sums;
        uint8_t* to = group + 12 * static_cast<size_t>(x);
        const __m256i most = _mm256_set1_epi16(255), last = sums[2].value();
        const __m256i words01 = _mm256_min_epu16(_mm256_packus_epi32(sums[0].value(), sums[1].value()), most);
        const __m256i words2 = _mm256_min_epu16(_mm256_packus_epi32(last, last), most);
        const __m128i even01 = _mm256_castsi256_si128(words01), odd01 = _mm256_extracti128_si256(words01, 1);
        const __m128i row01 = _mm_unpacklo_epi16(even01, odd01), row23 = _mm_unpackhi_epi16(even01, odd01);
        const __m128i row45 = _mm_unpacklo_epi16(_mm256_castsi256_si128(words2), _mm256_extracti128_si256(words2, 1));
        // Rows 6 and 7 are the last lanes of the three.
        const __m128i red_green = _mm_unpackhi_epi32(row01, row23);
        const __m128i row67 = _mm_castps_si128(
            _mm_shuffle_ps(_mm_castsi128_ps(red_green), _mm_castsi128_ps(row45), _MM_SHUFFLE(3, 3, 3, 2)));
        const __m128i rows[kRowPairs] = {row01, row23, row45, row67};
        for (int i = 0; i < kRowPairs; ++i) _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i * apart), rows[i]);
    }
    void end(int) const {}
};

void horizontal(const HorizontalTable& table, const uint8_t* const* rows, uint8_t* group) {
    horizontal_to(table, rows, Pixels{group, pair_bytes(table.width)});
}

struct Samples24 {
    __m128i first16, last8;
};

// 24 samples (8 pixels) from sample `at` on, clipped.
inline Samples24 eight(const VerticalTable& table, int row, const uint8_t* const* units, size_t at) {
    const int32_t* weights = table.weights + static_cast<size_t>(row) * table.stride;
    Sums sums[3];
    for (int unit = 0; unit < table.units[row]; ++unit, weights += 2) {
        const __m256i low = _mm256_set1_epi32(weights[0]), high = _mm256_set1_epi32(weights[1]);
        const uint8_t* from = units[unit] + 4 * at;
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

}  // namespace

void vertical_avx2(const VerticalTable& table, int row, const uint8_t* const* units, uint8_t* const* planes) {
    // Of 16 samples, those of channel c; of the 8 that follow, the rest.
    const __m128i first[3] = {_mm_setr_epi8(0, 3, 6, 9, 12, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1),
                              _mm_setr_epi8(1, 4, 7, 10, 13, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1),
                              _mm_setr_epi8(2, 5, 8, 11, 14, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1)};
    const __m128i rest[3] = {_mm_setr_epi8(-1, -1, -1, -1, -1, -1, 2, 5, -1, -1, -1, -1, -1, -1, -1, -1),
                             _mm_setr_epi8(-1, -1, -1, -1, -1, 0, 3, 6, -1, -1, -1, -1, -1, -1, -1, -1),
                             _mm_setr_epi8(-1, -1, -1, -1, -1, 1, 4, 7, -1, -1, -1, -1, -1, -1, -1, -1)};
    for (int x = 0; x < table.width; x += 8) {
        const Samples24 samples = eight(table, row, units, 3 * static_cast<size_t>(x));
        for (int c = 0; c < 3; ++c) {
            const __m128i plane = _mm_or_si128(_mm_shuffle_epi8(samples.first16, first[c]),
                                               _mm_shuffle_epi8(samples.last8, rest[c]));
            _mm_storel_epi64(reinterpret_cast<__m128i*>(planes[c] + x), plane);
        }
    }
}

void vertical_interleaved_avx2(const VerticalTable& table, int row, const uint8_t* const* units, uint8_t* samples) {
    for (int x = 0; x < table.width; x += 8) {
        const Samples24 made = eight(table, row, units, 3 * static_cast<size_t>(x));
        uint8_t* to = samples + 3 * static_cast<size_t>(x);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), made.first16);
        _mm_storel_epi64(reinterpret_cast<__m128i*>(to + 16), made.last8);
    }
}

void emit_avx2(const EmissionTable& table, int channel, const uint8_t* values, int count, void* out) {
    if (table.bytes != 4 || table.exact[channel] == 0) {
        kScalar.emit(table, channel, values, count, out);
        return;
    }
    // A look-up costs about a cycle an entry; eight of these cost two.
    const Line line = table.lines[channel];
    const __m256 slope = _mm256_set1_ps(line.slope), offset = _mm256_set1_ps(line.offset);
    const __m256 slope_rest = _mm256_set1_ps(line.slope_rest), offset_rest = _mm256_set1_ps(line.offset_rest);
    float* target = static_cast<float*>(out);
    int i = 0;
    for (; i + 8 <= count; i += 8) {
        const __m128i levels = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(values + i));
        const __m256 value = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(levels));
        _mm256_storeu_ps(target + i, _mm256_add_ps(_mm256_fmadd_ps(value, slope, offset),
                                                   _mm256_fmadd_ps(value, slope_rest, offset_rest)));
    }
    kScalar.emit(table, channel, values + i, count - i, target + i);
}

const RowKernels kAvx2 = {"avx2", kRows, 2, Digits::halves, 0, 16, group_bytes, horizontal, vertical_avx2,
                          vertical_interleaved_avx2, emit_avx2, &kFramesAvx2, &kAvx2Planes};

}  // namespace tledge
