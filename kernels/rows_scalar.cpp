// The row kernels in plain C++: what every other set must equal, byte for byte.
// A group is one row of interleaved samples.
#include "lines.h"
#include "rows.h"

namespace tledge {
namespace {

size_t group_bytes(int width) { return static_cast<size_t>(width) * 3; }

template <int channels>
void horizontal_of(const HorizontalTable& table, const uint8_t* const* rows, uint8_t* group) {
    for (int x = 0; x < table.width; ++x) {
        const uint8_t* from = rows[0] + channels * static_cast<size_t>(table.first[x]);
        const int32_t* weights = table.weights + static_cast<size_t>(x) * table.stride;
        for (int c = 0; c < channels; ++c) group[channels * x + c] = sample(from + c, channels, weights, table.count[x]);
    }
}

void horizontal(const HorizontalTable& table, const uint8_t* const* rows, uint8_t* group) {
    switch (table.channels) {
        case 1: return horizontal_of<1>(table, rows, group);
        case 2: return horizontal_of<2>(table, rows, group);
        default: return horizontal_of<3>(table, rows, group);
    }
}

uint8_t vertical_sample(const int32_t* weights, int count, const uint8_t* const* groups, int at) {
    int32_t sum = kHalf;
    for (int i = 0; i < count; ++i) sum += groups[i][at] * weights[i];
    return clip(sum);
}

void vertical(const VerticalTable& table, int row, const uint8_t* const* groups, uint8_t* const* planes) {
    const int32_t* weights = table.weights + static_cast<size_t>(row) * table.stride;
    for (int x = 0; x < table.width; ++x) {
        for (int c = 0; c < 3; ++c) {
            planes[c][x] = vertical_sample(weights, table.units[row], groups, 3 * x + c);
        }
    }
}

void vertical_interleaved(const VerticalTable& table, int row, const uint8_t* const* groups, uint8_t* samples) {
    const int32_t* weights = table.weights + static_cast<size_t>(row) * table.stride;
    for (int i = 0; i < 3 * table.width; ++i) {
        samples[i] = vertical_sample(weights, table.units[row], groups, i);
    }
}

template <typename T>
void look_up(const void* entries, int channel, const uint8_t* values, int count, void* out) {
    const T* table = static_cast<const T*>(entries) + 256 * channel;
    T* __restrict__ target = static_cast<T*>(out);
    for (int i = 0; i < count; ++i) target[i] = tledge::emit(table, values[i]);
}

void emit(const EmissionTable& table, int channel, const uint8_t* values, int count, void* out) {
    if (table.bytes == 4) {
        look_up<uint32_t>(table.entries, channel, values, count, out);
    } else if (table.bytes == 2) {
        look_up<uint16_t>(table.entries, channel, values, count, out);
    } else {
        look_up<uint8_t>(table.entries, channel, values, count, out);
    }
}

}  // namespace

const RowKernels kScalar = {"scalar", 1, 1, Digits::none, 0, 0, group_bytes, horizontal, vertical,
                            vertical_interleaved, emit, nullptr, &kScalar};

}  // namespace tledge
