// The horizontal pass of AVX2: see rows_avx2.cpp, which does it to pixels, and planes_avx2.cpp.
#pragma once

#include <immintrin.h>

#include "lines.h"
#include "rows.h"

namespace tledge {

// What planes take over from pixels.
void vertical_avx2(const VerticalTable&, int row, const uint8_t* const* units, uint8_t* const* planes);
void vertical_interleaved_avx2(const VerticalTable&, int row, const uint8_t* const* units, uint8_t* samples);
void emit_avx2(const EmissionTable&, int channel, const uint8_t* values, int count, void* out);

namespace {

constexpr int kMostAtOnce = 8;  // pairs that one step lays out

// Of a pair of rows: whole steps of 24 samples for the vertical pass, and the tail of the last store of the horizontal one.
inline size_t pair_bytes(int width) { return (static_cast<size_t>(3 * width) + 23) / 24 * 24 * 4 + 32; }

struct Sums {
    __m256i low = _mm256_set1_epi32(kHalf), high = _mm256_setzero_si256();

    inline void add(__m256i values, __m256i low_half, __m256i high_half) {
        // Else the compiler loads the values twice, and adds in an order for which it has too few registers.
        asm("" : "+x"(values));
        low = _mm256_add_epi32(low, _mm256_madd_epi16(values, low_half));
        high = _mm256_add_epi32(high, _mm256_madd_epi16(values, high_half));
        asm("" : "+x"(low), "+x"(high));
    }
    inline __m256i value() const {
        return _mm256_srai_epi32(_mm256_add_epi32(low, _mm256_slli_epi32(high, 11)), kPrecision);
    }
};

inline __m256i two_rows(const uint8_t* even, const uint8_t* odd) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(even))),
                                   _mm_loadu_si128(reinterpret_cast<const __m128i*>(odd)), 1);
}

// One output of all rows of a group.
template <int vectors>
struct Column {
    Sums sums[vectors];

    inline void add(const __m256i* pairs, const int32_t* halves, int count) {
        for (int i = 0; i < count; ++i, pairs += vectors, halves += 2) {
            const __m256i low = _mm256_set1_epi32(halves[0]), high = _mm256_set1_epi32(halves[1]);
            for (int c = 0; c < vectors; ++c) sums[c].add(_mm256_load_si256(pairs + c), low, high);
        }
    }
};

// The horizontal pass. count: pairs of every output, or 0 where they differ. To: what is laid out, and where outputs go: bytes
// of a source sample, vectors of a pair, pairs that are laid out at a time, which stay in the nearest cache.
template <int count, typename To>
inline void horizontal_of(const HorizontalTable& table, const uint8_t* const* rows, To to) {
    constexpr int channels = To::channels, vectors = To::vectors, tile = To::tile;
    __m256i pairs[vectors * (tile + kMostAtOnce)];
    const auto of = [&](int x) { return count > 0 ? count : table.count[x]; };
    for (int x = 0; x < table.width;) {
        const int from = table.first[x];
        int end = x, span = 0;
        if (count > 0) {
            while (end < table.width && table.first[end] <= from + 2 * (tile - count)) ++end;
            span = (table.first[end - 1] - from) / 2 + count;
        } else {
            for (; end < table.width; ++end) {
                const int reached = (table.first[end] - from) / 2 + table.count[end];
                if (reached > tile) break;
                span = reached > span ? reached : span;
            }
        }
        if (end > x) {
            To::lay_out(rows, channels * static_cast<size_t>(from), span, pairs);
            const int32_t* halves = table.weights + static_cast<size_t>(x) * table.stride;
            for (; x < end; ++x, halves += table.stride) {
                Column<vectors> column;
                column.add(pairs + vectors * (static_cast<size_t>(table.first[x] - from) >> 1), halves, of(x));
                to.put(x, column);
            }
            continue;
        }
        // More taps than fit.
        Column<vectors> column;
        for (int done = 0; done < table.count[x]; done += tile) {
            const int some = table.count[x] - done < tile ? table.count[x] - done : tile;
            To::lay_out(rows, channels * (static_cast<size_t>(from) + 2 * static_cast<size_t>(done)), some, pairs);
            column.add(pairs, table.weights + static_cast<size_t>(x) * table.stride + 2 * done, some);
        }
        to.put(x, column);
        ++x;
    }
    to.end(table.width);
}

template <typename To>
inline void horizontal_to(const HorizontalTable& table, const uint8_t* const* rows, To to) {
    switch (table.pairs) {
        case 1: return horizontal_of<1>(table, rows, to);
        case 2: return horizontal_of<2>(table, rows, to);
        case 3: return horizontal_of<3>(table, rows, to);
        case 4: return horizontal_of<4>(table, rows, to);
        case 5: return horizontal_of<5>(table, rows, to);
        case 6: return horizontal_of<6>(table, rows, to);
        default: return horizontal_of<0>(table, rows, to);
    }
}

}  // namespace
}  // namespace tledge
