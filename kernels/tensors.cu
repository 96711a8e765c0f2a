// A batch of images of different sizes to one batch of tensors, in one launch.
//
// Source: 8-bit red, green, blue, or blue, green, red and a byte not used; rows `stride` bytes apart.
// Output: planes or interleaved, entries of 1, 2 or 4 bytes out of tables of 256 a channel. Rounding: lines.h.
// Everything that depends on an image's size is in the Task and in the coefficients, both in buffers whose
// addresses stay: a captured graph serves any size, once those bytes are uploaded.
//
// A block makes kTile x kTile outputs: its threads resample the rows under them horizontally into shared memory,
// wait for one another, and then go down the columns. A tile whose rows do not fit there is resampled from the
// source for each output: more work, and the same integers. A launch: grid (tiles across, tiles down, images).
#pragma once

#include "lines.h"

namespace tledge {

constexpr int kTile = 16;
constexpr int kSharedRows = 160;  // of a tile: 10 source rows an output row

// One axis in the coefficients: first[n], count[n], then weights[n * stride], from `at` on.
struct AxisAt {
    int32_t at, outputs, stride;
};

struct Task {
    const uint8_t* pixels;
    int64_t stride;
    AxisAt x, y;
    int32_t pad_left, pad_top;
    int32_t pixel_bytes;  // 3, or 4
    int32_t order[3];     // the tensor's channel i is byte order[i] of a pixel
    int32_t fill[3];      // the border's level in the tensor's channel i
};

struct Output {
    int32_t width, height, bytes, channels_last;
};

struct Tile {
    uint8_t rows[kSharedRows][kTile][3];
};

TLEDGE_LINE const int32_t* weights_of(const int32_t* c, const AxisAt& axis, int i) {
    return c + axis.at + 2 * axis.outputs + static_cast<size_t>(i) * axis.stride;
}
TLEDGE_LINE int first_of(const int32_t* c, const AxisAt& axis, int i) { return c[axis.at + i]; }
TLEDGE_LINE int count_of(const int32_t* c, const AxisAt& axis, int i) { return c[axis.at + axis.outputs + i]; }

// One horizontal sample: source row `row`, window column x, the tensor's channel.
TLEDGE_LINE uint8_t across(const Task& t, const int32_t* c, int row, int x, int channel) {
    const size_t pixel = static_cast<size_t>(first_of(c, t.x, x)) * t.pixel_bytes;
    const uint8_t* from = t.pixels + row * t.stride + pixel + t.order[channel];
    return sample(from, t.pixel_bytes, weights_of(c, t.x, x), count_of(c, t.x, x));
}

// The window's part in a tile, and the source rows that it reads; rows is 0 where the tile is all border.
struct Part {
    int left, right, top, bottom, first_row, rows;
};

TLEDGE_LINE Part part_of(const Task& t, const int32_t* c, int tile_x, int tile_y) {
    Part p{tile_x * kTile - t.pad_left, 0, tile_y * kTile - t.pad_top, 0, 0, 0};
    p.right = p.left + kTile < t.x.outputs ? p.left + kTile : t.x.outputs;
    p.bottom = p.top + kTile < t.y.outputs ? p.top + kTile : t.y.outputs;
    p.left = p.left < 0 ? 0 : p.left;
    p.top = p.top < 0 ? 0 : p.top;
    if (p.left >= p.right || p.top >= p.bottom) return p;
    // An output never begins before the one above it, but may end before that one does.
    p.first_row = first_of(c, t.y, p.top);
    int end = 0;
    for (int y = p.top; y < p.bottom; ++y) {
        const int last = first_of(c, t.y, y) + count_of(c, t.y, y);
        end = last > end ? last : end;
    }
    p.rows = end - p.first_row;
    return p;
}

// Before the barrier: thread (x, y) of the block resamples every kTile-th row of its column.
TLEDGE_LINE void fill_tile(const Task& t, const int32_t* c, const Part& p, Tile* tile, int x, int y) {
    const int column = p.left + x;
    if (p.rows > kSharedRows || column >= p.right) return;
    for (int row = y; row < p.rows; row += kTile)
        for (int channel = 0; channel < 3; ++channel)
            tile->rows[row][x][channel] = across(t, c, p.first_row + row, column, channel);
}

TLEDGE_LINE void store(const Output& o, const void* table, void* out, size_t image, int x, int y, int channel,
                       uint8_t level) {
    const size_t pixel = static_cast<size_t>(y) * o.width + x, area = static_cast<size_t>(o.width) * o.height;
    const size_t at = image * 3 * area + (o.channels_last ? 3 * pixel + channel : channel * area + pixel);
    const int entry = 256 * channel;
    if (o.bytes == 4) {
        static_cast<uint32_t*>(out)[at] = emit(static_cast<const uint32_t*>(table) + entry, level);
    } else if (o.bytes == 2) {
        static_cast<uint16_t*>(out)[at] = emit(static_cast<const uint16_t*>(table) + entry, level);
    } else {
        static_cast<uint8_t*>(out)[at] = emit(static_cast<const uint8_t*>(table) + entry, level);
    }
}

// After the barrier: the output (out_x, out_y), from the tile or from the source.
TLEDGE_LINE void finish(const Task& t, const int32_t* c, const Part& p, const Tile* tile, const Output& o,
                        const void* table, void* out, size_t image, int out_x, int out_y) {
    if (out_x >= o.width || out_y >= o.height) return;
    const int x = out_x - t.pad_left, y = out_y - t.pad_top;
    const bool inside = x >= 0 && x < t.x.outputs && y >= 0 && y < t.y.outputs;
    for (int channel = 0; channel < 3; ++channel) {
        uint8_t level = static_cast<uint8_t>(t.fill[channel]);
        if (inside && p.rows <= kSharedRows) {
            const int row = first_of(c, t.y, y) - p.first_row;
            level = sample(&tile->rows[row][x - p.left][channel], 3 * kTile, weights_of(c, t.y, y), count_of(c, t.y, y));
        } else if (inside) {
            int32_t sum = kHalf;
            for (int i = 0; i < count_of(c, t.y, y); ++i)
                sum += across(t, c, first_of(c, t.y, y) + i, x, channel) * weights_of(c, t.y, y)[i];
            level = clip(sum);
        }
        store(o, table, out, image, out_x, out_y, channel, level);
    }
}

}  // namespace tledge

#if defined(__CUDACC__)
extern "C" __global__ void __launch_bounds__(tledge::kTile* tledge::kTile)
    tensors(const tledge::Task* tasks, const int32_t* coefficients, const void* table, void* out, int width, int height,
            int bytes, int channels_last) {
    __shared__ tledge::Tile tile;
    const tledge::Task& task = tasks[blockIdx.z];
    const tledge::Part part = tledge::part_of(task, coefficients, blockIdx.x, blockIdx.y);
    tledge::fill_tile(task, coefficients, part, &tile, threadIdx.x, threadIdx.y);
    __syncthreads();
    const tledge::Output output{width, height, bytes, channels_last};
    tledge::finish(task, coefficients, part, &tile, output, table, out, blockIdx.z,
                   blockIdx.x * tledge::kTile + threadIdx.x, blockIdx.y * tledge::kTile + threadIdx.y);
}
#endif
