// The lines of colour.h step by step over a row, in loops that a compiler can vectorise: two chroma rows are blended,
// spread over the pixels, and put through the matrix. An instruction set that has kernels of its own does most of it.
#include "frame.h"

#include <cstring>
#include <vector>

#include "colour.h"
#include "rows.h"

// A loop whose step is a constant where it is called: only then is it vectorised.
#define TLEDGE_INSIDE static inline __attribute__((always_inline))

namespace tledge {
namespace {

// Of a matrix: 16.0, beyond what any standard has. 255 times it and twice 128 times it fit into 32 bits.
constexpr int32_t kLargestFactor = 1 << (kColourPrecision + 4);

bool is_yuv(Format format) { return format <= Format::uyvy; }
bool halves_rows(Format format) { return format <= Format::i420; }

const uint8_t* row_of(const tledge_frame& frame, int plane, int row) { return frame.planes[plane] + frame.strides[plane] * row; }

ColourMatrix matrix_of(const tledge_frame& frame) {
    const int32_t* m = frame.matrix;
    return {m[0], m[1], m[2], m[3], m[4], m[5]};
}

YuvRow yuv_row(const tledge_frame& frame, int row) {
    const Format format = static_cast<Format>(frame.format);
    const int samples = (frame.width + 1) / 2;
    const bool between = frame.between_columns != 0;
    if (!halves_rows(format)) {
        const uint8_t* packed = row_of(frame, 0, row);
        const int luma = format == Format::yuyv ? 0 : 1, u = 1 - luma;
        return {packed + luma, packed + u, packed + u + 2, packed + u, packed + u + 2, 2, 4, 0, frame.width, samples, between};
    }
    const ChromaTaps taps = chroma_taps(row, (frame.height + 1) / 2, frame.between_rows != 0);
    const bool planar = format == Format::i420;
    const int swapped = format == Format::nv21 ? 1 : 0;
    const auto chroma = [&](int channel, int at) {
        return planar ? row_of(frame, 1 + channel, at) : row_of(frame, 1, at) + (channel ^ swapped);
    };
    return {row_of(frame, 0, row), chroma(0, taps.first), chroma(1, taps.first), chroma(0, taps.second),
            chroma(1, taps.second), 1, planar ? 1 : 2, taps.weight, frame.width, samples, between};
}

// Every second byte.
void take(const uint8_t* __restrict__ from, int begin, int end, uint8_t* __restrict__ to) {
    for (int i = begin; i < end; ++i) to[i] = from[2 * i];
}

void pair_up(const uint8_t* __restrict__ first, const uint8_t* __restrict__ second, int begin, int end, uint8_t* __restrict__ to) {
    for (int i = begin; i < end; ++i) {
        to[2 * i] = first[i];
        to[2 * i + 1] = second[i];
    }
}

// Bytes begin .. end - 1 of a plane's row, of `bytes`, where a load may read `reach` of it: the plane's last ones are copied.
const uint8_t* plane_row(const tledge_frame& frame, int plane, int row, int rows, int bytes, int begin, int end, size_t reach,
                         uint8_t* room) {
    const uint8_t *from = row_of(frame, plane, row), *last = row_of(frame, plane, rows - 1) + bytes;
    if (reach <= static_cast<size_t>(last - from)) return from;
    std::memcpy(room + begin, from + begin, end - begin);
    return room;
}

// Samples begin .. end - 1 of the blend of two chroma rows; sample i goes to u[i + 1], which leaves room at either end.
TLEDGE_INSIDE void blend_channel(const uint8_t* own, const uint8_t* other, int step, int weight, int begin, int end,
                                 int16_t* __restrict__ to) {
    for (int i = begin; i < end; ++i) to[i + 1] = static_cast<int16_t>(blend_rows(own[i * step], other[i * step], weight));
}

void blend(const YuvRow& row, int begin, int end, int16_t* u, int16_t* v) {
    if (row.chroma_step == 1) {
        blend_channel(row.u, row.other_u, 1, row.weight, begin, end, u);
        blend_channel(row.v, row.other_v, 1, row.weight, begin, end, v);
    } else if (row.chroma_step == 2) {
        blend_channel(row.u, row.other_u, 2, row.weight, begin, end, u);
        blend_channel(row.v, row.other_v, 2, row.weight, begin, end, v);
    } else {
        blend_channel(row.u, row.other_u, 4, row.weight, begin, end, u);
        blend_channel(row.v, row.other_v, 4, row.weight, begin, end, v);
    }
}

// Chroma of the two pixels of each of the pairs begin .. end - 1: what chroma_taps says, with the ends repeated before.
void spread(const int16_t* __restrict__ blend, int begin, int end, bool between, int16_t* __restrict__ chroma) {
    const int even = between ? 1 : 0, odd = between ? 1 : 2;
    for (int i = begin; i < end; ++i) {
        chroma[2 * i] = static_cast<int16_t>(blend_columns(blend[i + 1], blend[i], even));
        chroma[2 * i + 1] = static_cast<int16_t>(blend_columns(blend[i + 1], blend[i + 2], odd));
    }
}

TLEDGE_INSIDE void convert_pixels(const ColourMatrix m, const uint8_t* __restrict__ luma, int step, const int16_t* __restrict__ u,
                                  const int16_t* __restrict__ v, int begin, int end, uint8_t* __restrict__ red,
                                  uint8_t* __restrict__ green, uint8_t* __restrict__ blue) {
    for (int x = begin; x < end; ++x) {
        uint8_t pixel[3];
        to_rgb(m, luma[x * step], u[x], v[x], pixel);
        red[x] = pixel[0];
        green[x] = pixel[1];
        blue[x] = pixel[2];
    }
}

void convert(const ColourMatrix& m, const uint8_t* luma, int step, const int16_t* u, const int16_t* v, int begin,
                         int end, uint8_t* red, uint8_t* green, uint8_t* blue) {
    if (step == 1) {
        convert_pixels(m, luma, 1, u, v, begin, end, red, green, blue);
    } else {
        convert_pixels(m, luma, 2, u, v, begin, end, red, green, blue);
    }
}

// The same of chroma whose pairs begin with Cb (u is 0) or with Cr (1).
TLEDGE_INSIDE void convert_pairs(const ColourMatrix m, const uint8_t* __restrict__ luma, const uint8_t* __restrict__ chroma, int u,
                                 int count, uint8_t* __restrict__ red, uint8_t* __restrict__ green, uint8_t* __restrict__ blue) {
    for (int x = 0; x < count; ++x) {
        uint8_t pixel[3];
        to_rgb(m, luma[x], chroma[2 * x + u], chroma[2 * x + 1 - u], pixel);
        red[x] = pixel[0];
        green[x] = pixel[1];
        blue[x] = pixel[2];
    }
}

void interleave(const uint8_t* __restrict__ red, const uint8_t* __restrict__ green, const uint8_t* __restrict__ blue,
                            int begin, int end, uint8_t* __restrict__ rgb) {
    for (int x = begin; x < end; ++x) {
        rgb[3 * x] = red[x];
        rgb[3 * x + 1] = green[x];
        rgb[3 * x + 2] = blue[x];
    }
}

// One row's blends, chroma and planes: grown to the widest frame so far, so that no frame allocates.
struct Scratch {
    std::vector<int16_t> blends[2], chroma[2];
    std::vector<uint8_t> planes[3];

    void hold(size_t samples) {
        if (planes[2].size() >= 2 * samples) return;
        for (std::vector<int16_t>& each : blends) each.resize(samples + 2);
        for (std::vector<int16_t>& each : chroma) each.resize(2 * samples);
        for (std::vector<uint8_t>& each : planes) each.resize(2 * samples);
    }
};

thread_local Scratch scratch;

void convert_yuv(const tledge_frame& frame, const FrameKernels* kernels, int row, int begin, int end, uint8_t* rgb) {
    const YuvRow from = yuv_row(frame, row);
    const int samples = from.samples;
    scratch.hold(samples);
    const ColourMatrix matrix = matrix_of(frame);
    int16_t *u = scratch.blends[0].data(), *v = scratch.blends[1].data();
    uint8_t *red = scratch.planes[0].data(), *green = scratch.planes[1].data(), *blue = scratch.planes[2].data();
    if (kernels != nullptr) begin = kernels->yuv(from, matrix, begin, end, u, v, red, green, rgb);
    if (begin >= end) return;
    const int first = begin / 2, last = (end + 1) / 2;  // pairs
    blend(from, first > 0 ? first - 1 : 0, last < samples ? last + 1 : samples, u, v);
    for (int c = 0; c < 2; ++c) {
        int16_t* blended = scratch.blends[c].data();
        blended[0] = blended[1];
        blended[samples + 1] = blended[samples];
        spread(blended, first, last, from.between, scratch.chroma[c].data());
    }
    convert(matrix, from.luma, from.luma_step, scratch.chroma[0].data(), scratch.chroma[1].data(), begin, end, red, green, blue);
    interleave(red, green, blue, begin, end, rgb);
}

void reorder(const uint8_t* __restrict__ pixels, int step, int red, int green, int blue, int begin, int end,
                         uint8_t* __restrict__ rgb) {
    for (int x = begin; x < end; ++x) {
        rgb[3 * x] = pixels[step * x + red];
        rgb[3 * x + 1] = pixels[step * x + green];
        rgb[3 * x + 2] = pixels[step * x + blue];
    }
}

}  // namespace

bool makes_sense(const tledge_frame& frame) {
    if (frame.format < 0 || frame.format >= kFormats || frame.width < 1 || frame.height < 1) return false;
    if (frame.matrix[0] < 0 || frame.matrix[0] > 255) return false;
    for (int i = 1; i < 6; ++i) {
        if (frame.matrix[i] < -kLargestFactor || frame.matrix[i] > kLargestFactor) return false;
    }
    const Format format = static_cast<Format>(frame.format);
    const int64_t width = frame.width, half = (width + 1) / 2;
    int64_t least[3] = {width, 0, 0};
    if (format == Format::nv12 || format == Format::nv21) least[1] = 2 * half;
    if (format == Format::i420) least[1] = least[2] = half;
    if (format == Format::yuyv || format == Format::uyvy) least[0] = 4 * half;
    if (format == Format::bgrx || format == Format::rgba) least[0] = 4 * width;
    for (int plane = 0; plane < 3; ++plane) {
        if (least[plane] > 0 && (frame.planes[plane] == nullptr || frame.strides[plane] < least[plane])) return false;
    }
    return true;
}

bool has_chroma(const tledge_frame& frame, int chroma, bool between_columns, bool between_rows) {
    const Format format = static_cast<Format>(frame.format);
    return is_yuv(format) && chroma == (halves_rows(format) ? kHalfBoth : kHalfColumns) &&
           between_columns == (frame.between_columns != 0) && between_rows == (frame.between_rows != 0);
}

void convert_row(const tledge_frame& frame, const RowKernels& kernels, int row, int begin, int end, uint8_t* rgb) {
    const Format format = static_cast<Format>(frame.format);
    if (is_yuv(format)) return convert_yuv(frame, kernels.frames, row, begin, end, rgb);
    const uint8_t* pixels = row_of(frame, 0, row);
    if (format == Format::grey) return reorder(pixels, 1, 0, 0, 0, begin, end, rgb);
    const bool blue_first = format == Format::bgrx;
    if (kernels.frames != nullptr) begin = kernels.frames->reorder(pixels, blue_first, begin, end, frame.width, rgb);
    reorder(pixels, 4, blue_first ? 2 : 0, 1, blue_first ? 0 : 2, begin, end, rgb);
}

const uint8_t* luma_row(const tledge_frame& frame, int row, int begin, int end, size_t reach, uint8_t* room) {
    const Format format = static_cast<Format>(frame.format);
    if (halves_rows(format)) return plane_row(frame, 0, row, frame.height, frame.width, begin, end, reach, room);
    take(row_of(frame, 0, row) + (format == Format::yuyv ? 0 : 1), begin, end, room);
    return room;
}

const uint8_t* chroma_row(const tledge_frame& frame, int row, int begin, int end, size_t reach, uint8_t* room) {
    const Format format = static_cast<Format>(frame.format);
    if (format == Format::i420) {
        const uint8_t *u = row_of(frame, 1, row), *v = row_of(frame, 2, row);
        pair_up(u, v, begin, end, room);
        return room;
    }
    if (!halves_rows(format)) {
        take(row_of(frame, 0, row) + (format == Format::yuyv ? 1 : 0), 2 * begin, 2 * end, room);
        return room;
    }
    const int columns = (frame.width + 1) / 2, rows = (frame.height + 1) / 2;
    return plane_row(frame, 1, row, rows, 2 * columns, 2 * begin, 2 * end, reach, room);
}

void convert_levels(const tledge_frame& frame, const RowKernels& kernels, const uint8_t* luma, const uint8_t* chroma, int count,
                    uint8_t* const* rgb) {
    const ColourMatrix matrix = matrix_of(frame);
    const bool cb_first = static_cast<Format>(frame.format) != Format::nv21;
    if (kernels.frames != nullptr) return kernels.frames->levels(matrix, luma, chroma, cb_first, count, rgb);
    if (cb_first) {
        convert_pairs(matrix, luma, chroma, 0, count, rgb[0], rgb[1], rgb[2]);
    } else {
        convert_pairs(matrix, luma, chroma, 1, count, rgb[0], rgb[1], rgb[2]);
    }
}

}  // namespace tledge
