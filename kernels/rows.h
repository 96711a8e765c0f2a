// The three row kernels of an instruction set, and the tables that they read. Plain data: these headers are
// compiled for several instruction sets, and an inline function of the C++ library would be one too many.
//
// Every set gives the same bytes as rows_scalar.cpp.
//
// Source rows go in groups of `rows` at a time through the horizontal pass into a group: samples (3 a pixel, red
// first; 1 of luma; 2 of chroma) of all its rows, laid out as the set likes. The vertical pass reads groups and writes one row of
// 8-bit samples, in planes or interleaved; emission turns such a row into the tensor's type.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace tledge {

struct FrameKernels;

// Bytes that a kernel may write past the end of a row of 8-bit samples.
constexpr int kSlack = 64;

// Weights as digits for the byte dot product, or as halves for the 16-bit one; see plan.cpp.
struct HorizontalTable {
    int width;              // outputs (pixels)
    int channels;           // interleaved in a row: 1, 2 or 3
    const int32_t* first;   // each output: the first source pixel
    const int32_t* count;   // each output: taps (scalar), quads of taps (digits) or pairs (halves)
    const int32_t* weights;
    int stride;             // of weights, in int32, from one output to the next
    const int32_t* bias;    // each output: one half, and 128 times the sum of its weights
    int pairs;              // halves: of every output, the last ones of weight zero; 0: they differ
    // Sixteen samples at a time:
    int blocks;             // of 16 samples; 0: one output at a time
    int span;               // bytes of a source row that one block's quad reads: 64 or 128
    const int32_t* base;    // each block: offset in bytes of its first source byte
    const int32_t* quads;   // each block: quads of taps
    const int32_t* at;      // each block: where its digits begin, in int32
    const uint8_t* index;   // each block: 64 byte positions relative to base
};

struct VerticalTable {
    int width;              // outputs (pixels) a row
    const int32_t* unit;    // each output row: the first unit (row, pair or group of rows) it reads
    const int32_t* units;   // each output row: how many
    const int32_t* weights;
    int stride;             // of weights, in int32
    const int32_t* bias;    // each output row: as above
};

// A level v is fma(v, slope, offset) + fma(v, slope_rest, offset_rest), in float32.
struct Line {
    float slope, offset, slope_rest, offset_rest;
};

// 256 entries a channel, of 1, 2 or 4 bytes, as they are and as byte planes: plane b of channel c begins at
// planes + (4 c + b) * 256.
struct EmissionTable {
    int bytes;
    const void* entries;  // of unsigned integers of that many bytes
    const uint8_t* planes;
    const Line* lines;    // float32 only: of each channel, the entries exactly where exact[c] is not zero
    const int* exact;
};

// How a plan's tables are laid out for a set.
enum class Digits { none, signed_bytes, halves };

struct RowKernels {
    const char* name;
    int rows;                 // source rows a group
    int unit;                 // rows that one vertical weight covers: 1, 2 or 4
    Digits digits;
    int block_span;           // the widest block (bytes) that horizontal() can gather; 0: it goes output by output
    int reach;                // bytes that one load reads from an output's first source byte
    size_t (*group_bytes)(int width);
    void (*horizontal)(const HorizontalTable&, const uint8_t* const* rows, uint8_t* group);
    // units: pointers to the units that the row reads. The units of a group lie one after another, equally far apart.
    void (*vertical)(const VerticalTable&, int row, const uint8_t* const* units, uint8_t* const* planes);
    void (*vertical_interleaved)(const VerticalTable&, int row, const uint8_t* const* units, uint8_t* samples);
    void (*emit)(const EmissionTable&, int channel, const uint8_t* values, int count, void* out);
    const FrameKernels* frames;  // nullptr: no faster than frame.cpp
    const RowKernels* planes;    // whose horizontal() takes rows of 1 and of 2 channels
};

extern const RowKernels kScalar;
#if defined(__x86_64__)
extern const RowKernels kAvx2;
extern const RowKernels kAvx2Planes;
extern const RowKernels kAvx512Vnni;
#elif defined(__aarch64__)
extern const RowKernels kNeon;
extern const RowKernels kNeonPlanes;
#endif

// The sets compiled in, best first, and whether this machine runs the i-th.
int row_kernels_count();
const RowKernels* row_kernels(int index);
bool row_kernels_run_here(int index);

}  // namespace tledge
