// Groups of source rows go through the horizontal pass when the first output row needs them, into a ring that
// stays in the nearest cache; each output row is then summed, and emitted while it is still there.
#include "resample.h"

#include <algorithm>
#include <cstring>

#include "frame.h"

namespace tledge {
namespace {

constexpr int kMostRows = 16;  // of a group

// What one thread works in: grown to the largest image so far, so that no frame allocates.
struct Scratch {
    std::vector<uint8_t> ring, edge, row, levels;
    std::vector<const uint8_t*> units;

    static uint8_t* at_least(std::vector<uint8_t>& buffer, size_t bytes) {
        if (buffer.size() < bytes) buffer.resize(bytes);
        return buffer.data();
    }
};

// Of pixels or luma, and of chroma.
thread_local Scratch scratches[2];

Scratch& scratch_of(const Plan& plan) { return scratches[plan.channels == 2 ? 1 : 0]; }

// Hands out the rows of groups; a row whose loads would pass the image's last byte is copied first.
class Rows {
  public:
    Rows(const Plan& plan, const Source& source) : plan_(plan), source_(source) {
        const size_t width = plan.channels * static_cast<size_t>(plan.geometry.source_width);
        used_ = std::min(width, plan.row_reach);
        edge_stride_ = std::max(width, plan.row_reach);
        edge_ = Scratch::at_least(scratch_of(plan).edge, kMostRows * edge_stride_);
    }

    void of_group(int group, const uint8_t* rows[kMostRows]) const {
        for (int i = 0; i < plan_.kernels->rows; ++i) {
            if (source_.frame != nullptr) {
                rows[i] = of_frame(plan_.source_row(group, i), edge_ + i * edge_stride_);
                continue;
            }
            const size_t below = plan_.source_row(group, i) - source_.first_row;
            // Column 0 of a row that is not all there may lie before the first pixel: no pointer, only a number.
            const size_t offset = source_.stride * below - 3 * static_cast<size_t>(source_.first_column);
            rows[i] = reinterpret_cast<const uint8_t*>(reinterpret_cast<uintptr_t>(source_.pixels) + offset);
            if (static_cast<ptrdiff_t>(offset + plan_.row_reach) <= static_cast<ptrdiff_t>(source_.bytes)) continue;
            const size_t skipped = 3 * static_cast<size_t>(plan_.x.lowest);
            std::memcpy(edge_ + i * edge_stride_ + skipped, rows[i] + skipped, used_ - skipped);
            rows[i] = edge_ + i * edge_stride_;
        }
    }

  private:
    const uint8_t* of_frame(int row, uint8_t* room) const {
        const int begin = plan_.x.lowest, end = plan_.x.highest;
        if (plan_.channels == 1) return luma_row(*source_.frame, row, begin, end, plan_.row_reach, room);
        if (plan_.channels == 2) return chroma_row(*source_.frame, row, begin, end, plan_.row_reach, room);
        convert_row(*source_.frame, *plan_.kernels, row, begin, end, room);
        return room;
    }

    const Plan& plan_;
    const Source& source_;
    size_t used_, edge_stride_;
    uint8_t* edge_;
};

// The horizontal pass, each group once, into a ring of as many groups as one output row reads.
class Ring {
  public:
    Ring(const Plan& plan, const Source& source)
        : plan_(plan), rows_(plan, source), scratch_(scratch_of(plan)),
          bytes_(plan.kernels->group_bytes(plan.vertical.width)) {
        base_ = Scratch::at_least(scratch_.ring, bytes_ * plan.most_groups + 2 * kSlack);
        base_ += kSlack - reinterpret_cast<uintptr_t>(base_) % kSlack;  // no vector across two cache lines
        units_a_group_ = plan.kernels->rows / plan.kernels->unit;
        const size_t most = static_cast<size_t>(plan.most_groups) * units_a_group_;
        if (scratch_.units.size() < most) scratch_.units.resize(most);
    }

    const uint8_t* const* units_for(int row) {
        const int first = plan_.first_group(row), count = plan_.groups_of(row);
        for (next_ = std::max(next_, first); next_ < first + count; ++next_) {
            const uint8_t* from[kMostRows];
            rows_.of_group(next_, from);
            plan_.kernels->horizontal(plan_.horizontal, from, slot(next_));
        }
        const int unit = plan_.vertical.unit[row];
        for (int i = 0; i < plan_.vertical.units[row]; ++i) {
            const int group = (unit + i) / units_a_group_, within = (unit + i) % units_a_group_;
            scratch_.units[i] = slot(group) + bytes_ / units_a_group_ * within;
        }
        return scratch_.units.data();
    }

    // Row `row` of the window: in planes, or as it was interleaved. kSlack bytes more may be written.
    void planes(int row, uint8_t* const* to) { plan_.kernels->vertical(plan_.vertical, row, units_for(row), to); }
    void interleaved(int row, uint8_t* to) { plan_.kernels->vertical_interleaved(plan_.vertical, row, units_for(row), to); }

  private:
    uint8_t* slot(int group) const { return base_ + bytes_ * (group % plan_.most_groups); }

    const Plan& plan_;
    const Rows rows_;
    Scratch& scratch_;
    size_t bytes_;
    uint8_t* base_;
    int units_a_group_;
    int next_ = 0;
};

// A frame's luma and chroma, each through a ring of its own, and then converted: what a Ring is to pixels.
class Converted {
  public:
    Converted(const Plan& plan, const Source& source)
        : plan_(plan), frame_(*source.frame), luma_(plan, source), chroma_(*plan.chroma, source) {
        const size_t apart = plan.geometry.width + kSlack;
        levels_ = Scratch::at_least(scratches[0].levels, 4 * apart);
        pairs_ = Scratch::at_least(scratches[1].levels, 2 * apart);
        for (int c = 0; c < 3; ++c) rgb_[c] = levels_ + (c + 1) * apart;
    }

    void planes(int row, uint8_t* const* to) {
        luma_.interleaved(row, levels_);
        chroma_.interleaved(row, pairs_);
        convert_levels(frame_, *plan_.kernels, levels_, pairs_, plan_.geometry.width, to);
    }

    void interleaved(int row, uint8_t* to) {
        planes(row, rgb_);
        for (int x = 0; x < plan_.geometry.width; ++x) {
            for (int c = 0; c < 3; ++c) to[3 * x + c] = rgb_[c][x];
        }
    }

  private:
    const Plan& plan_;
    const tledge_frame& frame_;
    Ring luma_, chroma_;
    uint8_t *levels_, *pairs_, *rgb_[3];
};

template <typename T>
void emit_interleaved(const Table& table, const int32_t* order, const uint8_t* samples, size_t count, void* out) {
    const T* entries = table.entries.as<T>();
    T* __restrict__ target = static_cast<T*>(out);
    for (size_t i = 0; i < count; ++i) {
        for (int c = 0; c < 3; ++c) target[3 * i + c] = entries[256 * c + samples[3 * i + order[c]]];
    }
}

void emit_interleaved(const Table& table, const int32_t* order, const uint8_t* samples, size_t count, void* out) {
    switch (table.bytes) {
        case 4: emit_interleaved<uint32_t>(table, order, samples, count, out); break;
        case 2: emit_interleaved<uint16_t>(table, order, samples, count, out); break;
        default: emit_interleaved<uint8_t>(table, order, samples, count, out); break;
    }
}

// made: a Ring or a Converted.
template <typename Made>
void run_interleaved(const Plan& plan, const Table* table, Made& made, void* out, int begin, int end) {
    const tledge_geometry& g = plan.geometry;
    const size_t width = g.output_width, pixel = table == nullptr ? 3 : 3 * static_cast<size_t>(table->bytes);
    uint8_t* row = Scratch::at_least(scratches[0].row, 3 * width + kSlack);
    const auto fill = [&](size_t from, size_t to) {
        for (size_t x = from; x < to; ++x) {
            for (int c = 0; c < 3; ++c) row[3 * x + c] = static_cast<uint8_t>(g.fill[c]);
        }
    };
    fill(0, width);
    for (int y = begin; y < end; ++y) {
        const int inner = y - g.pad_top;
        if (inner >= 0 && inner < g.height) {
            made.interleaved(inner, row + 3 * static_cast<size_t>(g.pad_left));
            fill(g.pad_left + g.width, width);
        } else {
            fill(0, width);
        }
        uint8_t* target = static_cast<uint8_t*>(out) + pixel * width * y;
        if (table == nullptr) {
            std::memcpy(target, row, 3 * width);
        } else {
            emit_interleaved(*table, g.order, row, width, target);
        }
    }
}

template <typename Made>
void run_planes(const Plan& plan, const Table& table, Made& made, void* out, int begin, int end) {
    const tledge_geometry& g = plan.geometry;
    const size_t width = g.output_width, apart = width + kSlack;
    uint8_t* rows = Scratch::at_least(scratches[0].row, 3 * apart);
    uint8_t* const planes[3] = {rows + g.pad_left, rows + apart + g.pad_left, rows + 2 * apart + g.pad_left};
    const auto fill = [&](size_t from, size_t to) {
        for (int c = 0; c < 3; ++c) std::memset(rows + c * apart + from, g.fill[c], to - from);
    };
    const EmissionTable view = table.view();
    fill(0, width);
    for (int y = begin; y < end; ++y) {
        const int inner = y - g.pad_top;
        if (inner >= 0 && inner < g.height) {
            made.planes(inner, planes);
            fill(g.pad_left + g.width, width);
        } else {
            fill(0, width);
        }
        for (int c = 0; c < 3; ++c) {
            uint8_t* target = static_cast<uint8_t*>(out) + table.bytes * width * (static_cast<size_t>(c) * g.output_height + y);
            plan.kernels->emit(view, c, rows + g.order[c] * apart, static_cast<int>(width), target);
        }
    }
}

}  // namespace

Source whole_image(const Plan& plan, const uint8_t* pixels, size_t stride) {
    const size_t last = 3 * static_cast<size_t>(plan.geometry.source_width);
    return {pixels, stride, stride * (plan.geometry.source_height - 1) + last, 0, 0};
}

Source whole_frame(const tledge_frame& frame) { return {nullptr, 0, 0, 0, 0, &frame}; }

namespace {

template <typename Made>
void run_made(const Plan& plan, const Table* table, Made made, void* out, int begin, int end) {
    if (table == nullptr || plan.geometry.channels_last != 0) {
        run_interleaved(plan, table, made, out, begin, end);
    } else {
        run_planes(plan, *table, made, out, begin, end);
    }
}

}  // namespace

void run_rows(const Plan& plan, const Table* table, const Source& source, void* out, int begin, int end) {
    if (plan.chroma != nullptr) {
        run_made(plan, table, Converted(plan, source), out, begin, end);
    } else {
        run_made(plan, table, Ring(plan, source), out, begin, end);
    }
}

void normalise(const RowKernels& kernels, const Table& table, const uint8_t* samples, size_t count,
               bool channels_last, const int32_t* order, void* out) {
    if (channels_last) {
        emit_interleaved(table, order, samples, count, out);
        return;
    }
    constexpr size_t kChunk = 512;
    uint8_t plane[kChunk + kSlack];
    const EmissionTable view = table.view();
    for (size_t begin = 0; begin < count; begin += kChunk) {
        const size_t n = std::min(kChunk, count - begin);
        for (int c = 0; c < 3; ++c) {
            for (size_t i = 0; i < n; ++i) plane[i] = samples[3 * (begin + i) + order[c]];
            uint8_t* target = static_cast<uint8_t*>(out) + table.bytes * (c * count + begin);
            kernels.emit(view, c, plane, static_cast<int>(n), target);
        }
    }
}

}  // namespace tledge
