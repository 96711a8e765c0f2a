// A batch of images of different sizes and formats to one batch of tensors, in one launch.
//
// The arena is one piece of memory that holds everything about the images: its used bytes (int64, a multiple of 16)
// and 8 bytes that are not used; a Task an image; their coefficients and their pixels. Its address stays, so that a
// captured graph serves images of any size: `upload` copies what is used of it, `tensors` makes the batch.
//
// Source: source.h. Output: planes or interleaved, entries of 1, 2 or 4 bytes out of tables of 256 a channel.
// Rounding: a pixel is converted to red, green and blue (colour.h), and then resampled (lines.h). A task with axes of chroma
// has its planes resampled each by their own axes, and the outputs converted.
//
// A block makes kTile x kTile outputs: its threads resample the rows under them horizontally into shared memory,
// wait for one another, and then go down the columns. A tile whose rows do not fit there is resampled from the
// source for each output: more work, and the same integers. A launch: grid (tiles across, tiles down, images).
#pragma once

#include "source.h"

namespace tledge {

constexpr int kTile = 16;
constexpr int kSharedRows = 160;  // of a tile: 10 source rows an output row
constexpr int kHeader = 16;       // bytes of the arena before the tasks

// One axis in the coefficients: first[n], count[n], then weights[n * stride], from the arena's int32 number `at` on.
// No outputs: a place in the batch that holds no image.
struct AxisAt {
    int32_t at, outputs, stride;
};

struct Task {
    Source source;
    AxisAt x, y;
    AxisAt chroma_x, chroma_y;  // no outputs: pixels are converted before they are resampled
    int32_t pad_left, pad_top;
    int32_t fill[3];  // the border's red, green and blue
};

// blue_first: the tensor's channels are blue, green and red.
struct Output {
    int32_t width, height, bytes, channels_last, blue_first;
};

struct Tile {
    uint8_t rows[kSharedRows][kTile][3];
};

TLEDGE_LINE const Task& task_of(const uint8_t* arena, int image) {
    return reinterpret_cast<const Task*>(arena + kHeader)[image];
}
TLEDGE_LINE const int32_t* numbers_of(const uint8_t* arena, const AxisAt& axis) {
    return reinterpret_cast<const int32_t*>(arena) + axis.at;
}
TLEDGE_LINE int first_of(const uint8_t* arena, const AxisAt& axis, int i) { return numbers_of(arena, axis)[i]; }
TLEDGE_LINE int count_of(const uint8_t* arena, const AxisAt& axis, int i) { return numbers_of(arena, axis)[axis.outputs + i]; }
TLEDGE_LINE const int32_t* weights_of(const uint8_t* arena, const AxisAt& axis, int i) {
    return numbers_of(arena, axis) + 2 * axis.outputs + static_cast<size_t>(i) * axis.stride;
}

TLEDGE_LINE bool planes_first(const Task& t) { return t.chroma_x.outputs > 0; }

// One horizontal sample of a plane: row `row` of it, window column x.
TLEDGE_LINE uint8_t across_plane(const Component& part, const AxisAt& axis, const uint8_t* arena, int row, int x) {
    const uint8_t* from = row_of(part, arena, row) + static_cast<int64_t>(first_of(arena, axis, x)) * part.step;
    return sample(from, part.step, weights_of(arena, axis, x), count_of(arena, axis, x));
}

// One horizontal sample of each channel: source row `row`, window column x.
TLEDGE_LINE void across(const Task& t, const uint8_t* arena, int row, int x, uint8_t* rgb) {
    const SourceRow from = source_row(t.source, arena, row);
    const int first = first_of(arena, t.x, x), count = count_of(arena, t.x, x);
    const int32_t* weights = weights_of(arena, t.x, x);
    int32_t red = kHalf, green = kHalf, blue = kHalf;
    for (int i = 0; i < count; ++i) {
        uint8_t pixel[3];
        pixel_of(t.source, from, first + i, pixel);
        red += pixel[0] * weights[i];
        green += pixel[1] * weights[i];
        blue += pixel[2] * weights[i];
    }
    rgb[0] = clip(red);
    rgb[1] = clip(green);
    rgb[2] = clip(blue);
}

// Rows of the source or of a plane.
struct Rows {
    int first, count;
};

// The window's part in a tile, and the source rows and rows of chroma planes that it reads; none where the tile is all border.
struct Part {
    int left, right, top, bottom;
    Rows rows, chroma;
    bool fits;  // into a Tile
};

// The rows that outputs top .. bottom - 1 of an axis read.
TLEDGE_LINE Rows rows_under(const uint8_t* arena, const AxisAt& axis, int top, int bottom) {
    // An output never begins before the one above it, but may end before that one does.
    const int first = first_of(arena, axis, top);
    int end = 0;
    for (int y = top; y < bottom; ++y) {
        const int last = first_of(arena, axis, y) + count_of(arena, axis, y);
        end = last > end ? last : end;
    }
    return {first, end - first};
}

TLEDGE_LINE Part part_of(const Task& t, const uint8_t* arena, int tile_x, int tile_y) {
    Part p{tile_x * kTile - t.pad_left, 0, tile_y * kTile - t.pad_top, 0, {0, 0}, {0, 0}, true};
    p.right = p.left + kTile < t.x.outputs ? p.left + kTile : t.x.outputs;
    p.bottom = p.top + kTile < t.y.outputs ? p.top + kTile : t.y.outputs;
    p.left = p.left < 0 ? 0 : p.left;
    p.top = p.top < 0 ? 0 : p.top;
    if (p.left >= p.right || p.top >= p.bottom) return p;
    p.rows = rows_under(arena, t.y, p.top, p.bottom);
    if (planes_first(t)) p.chroma = rows_under(arena, t.chroma_y, p.top, p.bottom);
    p.fits = p.rows.count <= kSharedRows && p.chroma.count <= kSharedRows;
    return p;
}

// Before the barrier: thread (x, y) of the block resamples every kTile-th row of its column.
TLEDGE_LINE void fill_tile(const Task& t, const uint8_t* arena, const Part& p, Tile* tile, int x, int y) {
    const int column = p.left + x;
    if (!p.fits || column >= p.right) return;
    if (!planes_first(t)) {
        for (int row = y; row < p.rows.count; row += kTile) across(t, arena, p.rows.first + row, column, tile->rows[row][x]);
        return;
    }
    for (int part = 0; part < 3; ++part) {
        const AxisAt& axis = part == 0 ? t.x : t.chroma_x;
        const Rows rows = part == 0 ? p.rows : p.chroma;
        for (int row = y; row < rows.count; row += kTile) {
            tile->rows[row][x][part] = across_plane(t.source.parts[part], axis, arena, rows.first + row, column);
        }
    }
}

// `channel` is 0 for red, 1 for green, 2 for blue.
TLEDGE_LINE void store(const Output& o, const void* table, void* out, size_t image, int x, int y, int channel,
                       uint8_t level) {
    const int place = o.blue_first ? 2 - channel : channel;
    const size_t pixel = static_cast<size_t>(y) * o.width + x, area = static_cast<size_t>(o.width) * o.height;
    const size_t at = image * 3 * area + (o.channels_last ? 3 * pixel + place : place * area + pixel);
    const int entry = 256 * place;
    if (o.bytes == 4) {
        static_cast<uint32_t*>(out)[at] = emit(static_cast<const uint32_t*>(table) + entry, level);
    } else if (o.bytes == 2) {
        static_cast<uint16_t*>(out)[at] = emit(static_cast<const uint16_t*>(table) + entry, level);
    } else {
        static_cast<uint8_t*>(out)[at] = emit(static_cast<const uint8_t*>(table) + entry, level);
    }
}

// The output (x, y) of the window, of a source whose planes are resampled.
TLEDGE_LINE void from_planes(const Task& t, const uint8_t* arena, const Part& p, const Tile* tile, int x, int y, uint8_t* rgb) {
    uint8_t ycc[3];
    for (int part = 0; part < 3; ++part) {
        const AxisAt& down = part == 0 ? t.y : t.chroma_y;
        const int first = first_of(arena, down, y), count = count_of(arena, down, y);
        const int32_t* weights = weights_of(arena, down, y);
        if (p.fits) {
            const int row = first - (part == 0 ? p.rows.first : p.chroma.first);
            ycc[part] = sample(&tile->rows[row][x - p.left][part], 3 * kTile, weights, count);
            continue;
        }
        int32_t sum = kHalf;
        for (int i = 0; i < count; ++i) {
            sum += across_plane(t.source.parts[part], part == 0 ? t.x : t.chroma_x, arena, first + i, x) * weights[i];
        }
        ycc[part] = clip(sum);
    }
    to_rgb(t.source.matrix, ycc[0], ycc[1], ycc[2], rgb);
}

// After the barrier: the output (out_x, out_y), from the tile or from the source.
TLEDGE_LINE void finish(const Task& t, const uint8_t* arena, const Part& p, const Tile* tile, const Output& o,
                        const void* table, void* out, size_t image, int out_x, int out_y) {
    if (out_x >= o.width || out_y >= o.height) return;
    const int x = out_x - t.pad_left, y = out_y - t.pad_top;
    uint8_t rgb[3] = {static_cast<uint8_t>(t.fill[0]), static_cast<uint8_t>(t.fill[1]), static_cast<uint8_t>(t.fill[2])};
    const bool inside = x >= 0 && x < t.x.outputs && y >= 0 && y < t.y.outputs;
    if (inside && planes_first(t)) {
        from_planes(t, arena, p, tile, x, y, rgb);
    } else if (inside) {
        const int first = first_of(arena, t.y, y), count = count_of(arena, t.y, y);
        const int32_t* weights = weights_of(arena, t.y, y);
        if (p.fits) {
            const uint8_t* top = tile->rows[first - p.rows.first][x - p.left];
            for (int channel = 0; channel < 3; ++channel) rgb[channel] = sample(top + channel, 3 * kTile, weights, count);
        } else {
            int32_t sums[3] = {kHalf, kHalf, kHalf};
            for (int i = 0; i < count; ++i) {
                uint8_t row[3];
                across(t, arena, first + i, x, row);
                for (int channel = 0; channel < 3; ++channel) sums[channel] += row[channel] * weights[i];
            }
            for (int channel = 0; channel < 3; ++channel) rgb[channel] = clip(sums[channel]);
        }
    }
    for (int channel = 0; channel < 3; ++channel) store(o, table, out, image, out_x, out_y, channel, rgb[channel]);
}

// What one load moves.
struct alignas(16) Words {
    uint32_t words[4];
};

// Thread `thread` of `threads` copies every threads-th piece of what is used of the arena.
TLEDGE_LINE void copy_arena(const Words* from, Words* to, int64_t thread, int64_t threads) {
    const int64_t pieces = *reinterpret_cast<const int64_t*>(from) / static_cast<int64_t>(sizeof(Words));
    for (int64_t i = thread; i < pieces; i += threads) to[i] = from[i];
}

}  // namespace tledge

#if defined(__CUDACC__)
// The host's arena to the GPU's, as a kernel and not as a copy, because a recorded copy has one size for ever. An
// integrated GPU copies too: it does not cache the host's memory, and a pixel is read several times.
extern "C" __global__ void upload(const tledge::Words* __restrict__ from, tledge::Words* __restrict__ to) {
    tledge::copy_arena(from, to, static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x,
                       static_cast<int64_t>(gridDim.x) * blockDim.x);
}

extern "C" __global__ void __launch_bounds__(tledge::kTile* tledge::kTile)
    tensors(const uint8_t* arena, const void* table, void* out, int width, int height, int bytes, int channels_last,
            int blue_first) {
    __shared__ tledge::Tile tile;
    const tledge::Task& task = tledge::task_of(arena, blockIdx.z);
    const tledge::Part part = tledge::part_of(task, arena, blockIdx.x, blockIdx.y);
    tledge::fill_tile(task, arena, part, &tile, threadIdx.x, threadIdx.y);
    __syncthreads();
    const tledge::Output output{width, height, bytes, channels_last, blue_first};
    tledge::finish(task, arena, part, &tile, output, table, out, blockIdx.z, blockIdx.x * tledge::kTile + threadIdx.x,
                   blockIdx.y * tledge::kTile + threadIdx.y);
}
#endif
