// Camera formats to 8-bit red, green, blue: the scalar lines, one source for CPU and GPU.
//
// Y'CbCr of 8 bits; chroma is interpolated to the pixel by its siting in quarters (or its planes were resized to the
// output's pixels), then a matrix of 16 fractional bits is applied in 32-bit integers, rounded half up and clipped. A format
// of red, green and blue is only reordered.
// Layouts: docs/preprocessing.md. Planes may have any row stride; odd sizes have (side + 1) / 2 chroma samples.
#pragma once

#include "lines.h"

namespace tledge {

// The order of tledge/preprocess/frames.py.
enum class Format : int { nv12 = 0, nv21, i420, yuyv, uyvy, bgrx, rgba, grey };
constexpr int kFormats = 8;

constexpr int kColourPrecision = 16;

// Y' is first reduced by `black`; chroma by 128.
struct ColourMatrix {
    int32_t black, luma, red_v, green_u, green_v, blue_u;
};

// The two chroma samples that a luma sample at `at` takes, and the second one's weight in quarters. A chroma sample
// lies between the two luma samples that share it, or on the first of them.
struct ChromaTaps {
    int first, second, weight;
};

TLEDGE_LINE ChromaTaps chroma_taps(int at, int chroma_samples, bool between) {
    const int own = at >> 1;
    const bool odd = (at & 1) != 0;
    // Between: a quarter of a chroma step from its own sample. Else: on it, or half-way to the next.
    const int next = odd ? own + 1 : (between ? own - 1 : own);
    const int other = next < 0 ? 0 : (next >= chroma_samples ? chroma_samples - 1 : next);
    return {own, other, between ? 1 : (odd ? 2 : 0)};
}

TLEDGE_LINE uint8_t to_level(int32_t value) {
    const int32_t level = (value + (1 << (kColourPrecision - 1))) >> kColourPrecision;
    return static_cast<uint8_t>(level < 0 ? 0 : (level > 255 ? 255 : level));
}

// Which of its axes chroma halves; a picture of red, green and blue has none.
constexpr int kNoChroma = 0, kHalfColumns = 1, kHalfBoth = 2;

// Luma and interpolated chroma, 0 to 255, to one pixel.
TLEDGE_LINE void to_rgb(const ColourMatrix& m, int32_t y, int32_t u, int32_t v, uint8_t* rgb) {
    const int32_t luma = (y - m.black) * m.luma;
    u -= 128;
    v -= 128;
    rgb[0] = to_level(luma + m.red_v * v);
    rgb[1] = to_level(luma + m.green_u * u + m.green_v * v);
    rgb[2] = to_level(luma + m.blue_u * u);
}

// Two chroma rows blended in quarters (0 to 1020), then two columns of that in quarters, rounded half up.
TLEDGE_LINE int32_t blend_rows(int32_t own, int32_t other, int weight) { return own * (4 - weight) + other * weight; }
TLEDGE_LINE int32_t blend_columns(int32_t own, int32_t other, int weight) {
    return (own * (4 - weight) + other * weight + 8) >> 4;
}

}  // namespace tledge
