// AVX2: rows of camera frames to interleaved red, green and blue, 32 pixels (16 chroma samples) at a time.
//
// Even and odd pixels go in vectors of their own, since each kind takes its chroma in another way. A product of the matrix
// does not fit into 16 bits: a coefficient is a low part of 16 signed bits, multiplied by `vpmaddwd`, and a small high one,
// whose product is added to the upper half of the sum.
#include <immintrin.h>

#include "colour.h"
#include "frame.h"

namespace tledge {
namespace {

constexpr int kPixels = 32, kPairs = kPixels / 2;

inline __m256i load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
inline void store(void* to, __m256i value) { _mm256_storeu_si256(static_cast<__m256i*>(to), value); }
inline __m256i widen(const uint8_t* from) {
    return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
inline __m256i even_bytes(__m256i bytes) { return _mm256_and_si256(bytes, _mm256_set1_epi16(255)); }
inline __m256i odd_bytes(__m256i bytes) { return _mm256_srli_epi16(bytes, 8); }

// Packed Y' Cb Y' Cr (luma_first) or Cb Y' Cr Y' to a row of luma and one of Cb Cr pairs.
void take_apart(const uint8_t* packed, bool luma_first, int begin, int end, uint8_t* luma, uint8_t* chroma) {
    int i = begin;
    for (; i + kPairs <= end; i += kPairs) {
        const __m256i front = load(packed + 4 * i), back = load(packed + 4 * i + 32);
        const __m256i even = _mm256_packus_epi16(even_bytes(front), even_bytes(back));
        const __m256i odd = _mm256_packus_epi16(odd_bytes(front), odd_bytes(back));
        store(luma + 2 * i, _mm256_permute4x64_epi64(luma_first ? even : odd, 0xD8));
        store(chroma + 2 * i, _mm256_permute4x64_epi64(luma_first ? odd : even, 0xD8));
    }
    for (; i < end; ++i) {
        for (int half = 0; half < 2; ++half) {
            luma[2 * i + half] = packed[4 * i + 2 * half + (luma_first ? 0 : 1)];
            chroma[2 * i + half] = packed[4 * i + 2 * half + (luma_first ? 1 : 0)];
        }
    }
}

// Samples begin .. end - 1 of the blend of two chroma rows; sample i goes to u[i + 1] and v[i + 1].
void blend(const YuvRow& row, int begin, int end, int16_t* u, int16_t* v) {
    const __m256i own_weight = _mm256_set1_epi16(static_cast<int16_t>(4 - row.weight));
    const __m256i other_weight = _mm256_set1_epi16(static_cast<int16_t>(row.weight));
    const auto blended = [&](__m256i own, __m256i other) {
        return _mm256_add_epi16(_mm256_mullo_epi16(own, own_weight), _mm256_mullo_epi16(other, other_weight));
    };
    const int step = row.chroma_step;
    const bool u_first = row.u < row.v;
    int i = begin;
    for (; i + kPairs <= end; i += kPairs) {
        if (step == 1) {
            store(u + i + 1, blended(widen(row.u + i), widen(row.other_u + i)));
            store(v + i + 1, blended(widen(row.v + i), widen(row.other_v + i)));
            continue;
        }
        const __m256i own = load((u_first ? row.u : row.v) + 2 * i);
        const __m256i other = load((u_first ? row.other_u : row.other_v) + 2 * i);
        store((u_first ? u : v) + i + 1, blended(even_bytes(own), even_bytes(other)));
        store((u_first ? v : u) + i + 1, blended(odd_bytes(own), odd_bytes(other)));
    }
    for (; i < end; ++i) {
        u[i + 1] = static_cast<int16_t>(blend_rows(row.u[i * step], row.other_u[i * step], row.weight));
        v[i + 1] = static_cast<int16_t>(blend_rows(row.v[i * step], row.other_v[i * step], row.weight));
    }
}

// Chroma of the even and of the odd pixels of 16 pairs, less 128. at: the blend of the first pair's own sample.
struct Chroma {
    __m256i even, odd;
};

template <bool between>
inline Chroma spread(const int16_t* at) {
    const __m256i own = load(at), next = load(at + 1);
    if (between) {
        const __m256i rounding = _mm256_set1_epi16(8 - (128 << 4));
        const __m256i mostly = _mm256_add_epi16(_mm256_add_epi16(own, rounding), _mm256_slli_epi16(own, 1));
        return {_mm256_srai_epi16(_mm256_add_epi16(mostly, load(at - 1)), 4),
                _mm256_srai_epi16(_mm256_add_epi16(mostly, next), 4)};
    }
    const __m256i half_way = _mm256_add_epi16(_mm256_add_epi16(own, next), _mm256_set1_epi16(4 - (128 << 3)));
    return {_mm256_srai_epi16(_mm256_add_epi16(own, _mm256_set1_epi16(2 - (128 << 2))), 2), _mm256_srai_epi16(half_way, 3)};
}

// A coefficient: low + 65536 * high.
inline int low_part(int32_t coefficient) { return static_cast<int16_t>(coefficient & 0xFFFF); }
inline __m256i high_part(int32_t coefficient) {
    return _mm256_set1_epi16(static_cast<int16_t>((coefficient - low_part(coefficient)) >> 16));
}
inline __m256i low_parts(int32_t first, int32_t second) {
    return _mm256_set1_epi32(static_cast<int32_t>(static_cast<uint32_t>(low_part(second)) << 16 | (low_part(first) & 0xFFFF)));
}

struct Levels {
    __m256i red, green, blue;  // not yet clipped
};

struct Matrix {
    explicit Matrix(const ColourMatrix& m)
        : red(low_parts(m.luma, m.red_v)), green_u(low_parts(m.luma, m.green_u)), green_v(low_parts(0, m.green_v)),
          blue(low_parts(m.luma, m.blue_u)), luma_high(high_part(m.luma)), red_high(high_part(m.red_v)),
          green_u_high(high_part(m.green_u)), green_v_high(high_part(m.green_v)), blue_high(high_part(m.blue_u)),
          rounding(_mm256_set1_epi32((1 << (kColourPrecision - 1)) - m.black * m.luma)) {}

    inline __m256i rounded(__m256i low, __m256i high) const {
        return _mm256_packs_epi32(_mm256_srai_epi32(_mm256_add_epi32(low, rounding), kColourPrecision),
                                  _mm256_srai_epi32(_mm256_add_epi32(high, rounding), kColourPrecision));
    }

    inline Levels of(__m256i y, __m256i u, __m256i v) const {
        const __m256i yu_low = _mm256_unpacklo_epi16(y, u), yu_high = _mm256_unpackhi_epi16(y, u);
        const __m256i yv_low = _mm256_unpacklo_epi16(y, v), yv_high = _mm256_unpackhi_epi16(y, v);
        const __m256i bright = _mm256_mullo_epi16(y, luma_high);
        const auto with = [&](__m256i levels, __m256i chroma, __m256i factor) {
            return _mm256_add_epi16(levels, _mm256_mullo_epi16(chroma, factor));
        };
        const __m256i green_low = _mm256_add_epi32(_mm256_madd_epi16(yu_low, green_u), _mm256_madd_epi16(yv_low, green_v));
        const __m256i green_high = _mm256_add_epi32(_mm256_madd_epi16(yu_high, green_u), _mm256_madd_epi16(yv_high, green_v));
        return {_mm256_add_epi16(rounded(_mm256_madd_epi16(yv_low, red), _mm256_madd_epi16(yv_high, red)),
                                 with(bright, v, red_high)),
                _mm256_add_epi16(rounded(green_low, green_high), with(with(bright, u, green_u_high), v, green_v_high)),
                _mm256_add_epi16(rounded(_mm256_madd_epi16(yu_low, blue), _mm256_madd_epi16(yu_high, blue)),
                                 with(bright, u, blue_high))};
    }

    __m256i red, green_u, green_v, blue, luma_high, red_high, green_u_high, green_v_high, blue_high, rounding;
};

// Byte j of each of three 16-byte stretches of interleaved pixels comes from the plane (stretch + j) % 3. So one shuffle
// of a plane puts its bytes where all three take them. In a lane of a plane the even pixels come before the odd ones.
struct Interleaving {
    Interleaving() {
        alignas(16) uint8_t places[3][16], third[3][16];
        for (int stretch = 0; stretch < 3; ++stretch) {
            for (int j = 0; j < 16; ++j) {
                const int pixel = (16 * stretch + j) / 3;
                places[(16 * stretch + j) % 3][j] = static_cast<uint8_t>((pixel & 1) * 8 + pixel / 2);
                third[stretch][j] = (j % 3 == stretch) ? 0x80 : 0;
            }
        }
        for (int i = 0; i < 3; ++i) {
            place[i] = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(places[i])));
            at[i] = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(third[i])));
        }
    }

    inline void put(__m256i red, __m256i green, __m256i blue, uint8_t* rgb) const {
        const __m256i r = _mm256_shuffle_epi8(red, place[0]), g = _mm256_shuffle_epi8(green, place[1]),
                      b = _mm256_shuffle_epi8(blue, place[2]);
        for (int stretch = 0; stretch < 3; ++stretch) {
            const __m256i bytes = _mm256_blendv_epi8(_mm256_blendv_epi8(r, g, at[(4 - stretch) % 3]), b, at[(5 - stretch) % 3]);
            _mm_storeu_si128(reinterpret_cast<__m128i*>(rgb + 16 * stretch), _mm256_castsi256_si128(bytes));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(rgb + 48 + 16 * stretch), _mm256_extracti128_si256(bytes, 1));
        }
    }

    __m256i place[3], at[3];
};

template <bool between>
int convert(const uint8_t* luma, const int16_t* u, const int16_t* v, const ColourMatrix& m, int x, int end, int width,
            uint8_t* rgb) {
    const Matrix matrix(m);
    const Interleaving interleaving;
    for (; x < end && x + kPixels <= width; x += kPixels) {
        const __m256i y = load(luma + x);
        const Chroma cb = spread<between>(u + x / 2 + 1), cr = spread<between>(v + x / 2 + 1);
        const Levels even = matrix.of(even_bytes(y), cb.even, cr.even), odd = matrix.of(odd_bytes(y), cb.odd, cr.odd);
        interleaving.put(_mm256_packus_epi16(even.red, odd.red), _mm256_packus_epi16(even.green, odd.green),
                         _mm256_packus_epi16(even.blue, odd.blue), rgb + 3 * static_cast<size_t>(x));
    }
    return x;
}

int yuv(const YuvRow& from, const ColourMatrix& m, int begin, int end, int16_t* u, int16_t* v, uint8_t* luma,
        uint8_t* chroma, uint8_t* rgb) {
    const int x = begin & ~1;
    // The samples under the last block, and one more at either end.
    const int blocks = (end - x + kPixels - 1) / kPixels;
    const int first = x / 2 > 0 ? x / 2 - 1 : 0, wanted = x / 2 + blocks * kPairs + 1;
    const int last = wanted < from.samples ? wanted : from.samples;
    YuvRow row = from;
    if (row.luma_step == 2) {
        const bool luma_first = row.luma < row.u;
        take_apart(luma_first ? row.luma : row.u, luma_first, first, last, luma, chroma);
        row = {luma, chroma, chroma + 1, chroma, chroma + 1, 1, 2, 0, row.width, row.samples, row.between};
    }
    blend(row, first, last, u, v);
    int16_t* const both[2] = {u, v};
    for (int16_t* each : both) {
        each[0] = each[1];
        each[row.samples + 1] = each[row.samples];
    }
    return row.between ? convert<true>(row.luma, u, v, m, x, end, row.width, rgb)
                       : convert<false>(row.luma, u, v, m, x, end, row.width, rgb);
}

void levels(const ColourMatrix& m, const uint8_t* luma, const uint8_t* chroma, bool cb_first, int count, uint8_t* const* rgb) {
    const Matrix matrix(m);
    const __m256i middle = _mm256_set1_epi16(128);
    for (int x = 0; x < count; x += kPixels) {
        Levels half[2];
        for (int i = 0; i < 2; ++i) {
            const int at = x + i * kPairs;
            const __m256i pairs = load(chroma + 2 * at);
            const __m256i first = _mm256_sub_epi16(even_bytes(pairs), middle), second = _mm256_sub_epi16(odd_bytes(pairs), middle);
            half[i] = matrix.of(widen(luma + at), cb_first ? first : second, cb_first ? second : first);
        }
        const auto put = [&](__m256i front, __m256i back, uint8_t* to) {
            store(to + x, _mm256_permute4x64_epi64(_mm256_packus_epi16(front, back), 0xD8));
        };
        put(half[0].red, half[1].red, rgb[0]);
        put(half[0].green, half[1].green, rgb[1]);
        put(half[0].blue, half[1].blue, rgb[2]);
    }
}

int reorder(const uint8_t* pixels, bool blue_first, int begin, int end, int width, uint8_t* rgb) {
    const __m128i order = blue_first ? _mm_setr_epi8(2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1)
                                     : _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
    int x = begin;
    // Each store writes four bytes of the next pixels.
    for (; x < end && x + 6 <= width; x += 4) {
        const __m128i four = _mm_loadu_si128(reinterpret_cast<const __m128i*>(pixels + 4 * static_cast<size_t>(x)));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(rgb + 3 * static_cast<size_t>(x)), _mm_shuffle_epi8(four, order));
    }
    return x;
}

}  // namespace

const FrameKernels kFramesAvx2 = {yuv, levels, reorder};

}  // namespace tledge
