// A camera's frame, row by row, as the resampling reads images: 8-bit, interleaved, red first.
#pragma once

#include <cstddef>
#include <cstdint>

#include "abi.h"

namespace tledge {

struct ColourMatrix;
struct RowKernels;

// Where Y', Cb and Cr of a row begin, and how many bytes apart they lie; the chroma row to blend in, and its weight.
struct YuvRow {
    const uint8_t *luma, *u, *v, *other_u, *other_v;
    int luma_step, chroma_step, weight;
    int width, samples;  // pixels and chroma samples of the row
    bool between;        // chroma lies between two pixels
};

// What an instruction set converts of a row's columns begin .. end - 1: each returns the column that it came to, short of
// `end` where its vectors would pass the row's end, or beyond it. Plain pointers: see rows.h.
struct FrameKernels {
    // u and v: room for two samples more than a row's; luma and chroma: for twice its samples.
    int (*yuv)(const YuvRow& row, const ColourMatrix& matrix, int begin, int end, int16_t* u, int16_t* v, uint8_t* luma,
               uint8_t* chroma, uint8_t* rgb);
    // `count` pixels of Y' and of pairs of chroma to planes of red, green and blue; reads and writes up to 31 pixels more.
    void (*levels)(const ColourMatrix& matrix, const uint8_t* luma, const uint8_t* chroma, bool cb_first, int count,
                   uint8_t* const* rgb);
    // Four bytes a pixel.
    int (*reorder)(const uint8_t* pixels, bool blue_first, int begin, int end, int width, uint8_t* rgb);
};

#if defined(__x86_64__)
extern const FrameKernels kFramesAvx2;
#endif

// Whether the planes that the format needs are there, with strides that hold their rows, and the matrix's sums fit.
bool makes_sense(const tledge_frame& frame);

// Whether a plan's chroma planes are the frame's: a geometry's numbers.
bool has_chroma(const tledge_frame& frame, int chroma, bool between_columns, bool between_rows);

// Columns begin .. end - 1 of a row, written to rgb + 3 * begin; others may be written as well.
void convert_row(const tledge_frame& frame, const RowKernels& kernels, int row, int begin, int end, uint8_t* rgb);

// Samples begin .. end - 1 of a row of luma of a Y'CbCr frame, or pairs of chroma in whichever order the frame has them; `reach`
// bytes from the row's first may be read. They lie in the frame, or are copied to `room`, which holds as many.
const uint8_t* luma_row(const tledge_frame& frame, int row, int begin, int end, size_t reach, uint8_t* room);
const uint8_t* chroma_row(const tledge_frame& frame, int row, int begin, int end, size_t reach, uint8_t* room);

// `count` pixels of such luma and chroma to planes of red, green and blue; all with room for kSlack pixels more.
void convert_levels(const tledge_frame& frame, const RowKernels& kernels, const uint8_t* luma, const uint8_t* chroma, int count,
                    uint8_t* const* rgb);

}  // namespace tledge
