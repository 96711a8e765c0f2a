// One pixel of a source in any format, red first: scalar, for the GPU. The host's rows: frame.cpp.
//
// A source is three components: red, green and blue, or Y', Cb and Cr, each somewhere in a plane. So a format is only
// numbers (tledge/cuda/arena.py has the table): where a component begins, and how far apart its samples and rows lie.
#pragma once

#include "colour.h"

namespace tledge {

// The sample in column x of row y is the byte at + y * stride + x * step. `at` may lie before the memory: only what
// the window reads is there.
struct Component {
    int64_t at;
    int32_t stride, step;
};

struct Source {
    Component parts[3];
    int32_t chroma, chroma_columns, chroma_rows;
    int32_t between_columns, between_rows;
    ColourMatrix matrix;
};

// Where the components of a row begin; of Y'CbCr also those of the chroma row to blend in.
struct SourceRow {
    const uint8_t *first, *second, *third, *other_second, *other_third;
    int weight;
};

TLEDGE_LINE const uint8_t* row_of(const Component& part, const uint8_t* memory, int row) {
    return memory + part.at + static_cast<int64_t>(row) * part.stride;
}

TLEDGE_LINE SourceRow source_row(const Source& s, const uint8_t* memory, int row) {
    ChromaTaps taps{row, row, 0};
    if (s.chroma == kHalfBoth) taps = chroma_taps(row, s.chroma_rows, s.between_rows != 0);
    return {row_of(s.parts[0], memory, row), row_of(s.parts[1], memory, taps.first), row_of(s.parts[2], memory, taps.first),
            row_of(s.parts[1], memory, taps.second), row_of(s.parts[2], memory, taps.second), taps.weight};
}

// One chroma value of a pixel, from the four samples around it.
TLEDGE_LINE int32_t chroma_of(const uint8_t* own, const uint8_t* other, int step, int row_weight, const ChromaTaps& taps) {
    const int first = taps.first * step, second = taps.second * step;
    return blend_columns(blend_rows(own[first], other[first], row_weight), blend_rows(own[second], other[second], row_weight),
                         taps.weight);
}

TLEDGE_LINE void pixel_of(const Source& s, const SourceRow& row, int x, uint8_t* rgb) {
    const uint8_t first = row.first[x * s.parts[0].step];
    if (s.chroma == kNoChroma) {
        rgb[0] = first;
        rgb[1] = row.second[x * s.parts[1].step];
        rgb[2] = row.third[x * s.parts[2].step];
        return;
    }
    const ChromaTaps taps = chroma_taps(x, s.chroma_columns, s.between_columns != 0);
    to_rgb(s.matrix, first, chroma_of(row.second, row.other_second, s.parts[1].step, row.weight, taps),
           chroma_of(row.third, row.other_third, s.parts[2].step, row.weight, taps), rgb);
}

}  // namespace tledge
