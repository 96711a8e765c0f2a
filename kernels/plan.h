// A plan: everything that one image size under one specification needs, made once and then only read.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "abi.h"
#include "axis.h"
#include "rows.h"

namespace tledge {

// Memory that begins at a cache line, for the tables that are read 64 bytes at a time.
class AlignedBytes {
  public:
    void allocate(size_t bytes);
    template <typename T>
    T* as() const {
        return reinterpret_cast<T*>(data_.get());
    }

  private:
    struct Free {
        void operator()(uint8_t* data) const { std::free(data); }
    };
    std::unique_ptr<uint8_t, Free> data_;
};

struct Plan {
    Plan(const tledge_geometry& geometry, const RowKernels& kernels);
    Plan(const tledge_geometry& geometry, const RowKernels& kernels, Axis across, Axis down, int channels);
    Plan(const Plan&) = delete;
    Plan& operator=(const Plan&) = delete;

    // Groups of source rows, numbered from the first row that the window reads.
    int groups_of(int row) const;
    int first_group(int row) const;
    int source_row(int group, int row_in_group) const;

    tledge_geometry geometry;
    const RowKernels* kernels;
    int channels;  // of a source row: 3 of pixels, 1 of luma, 2 of chroma
    Axis x, y;
    HorizontalTable horizontal;
    VerticalTable vertical;
    int most_groups = 1;     // that one output row reads
    size_t row_reach = 0;    // bytes of a source row, from its beginning, that the horizontal pass may load
    std::unique_ptr<const Plan> chroma;  // of a frame's planes that are resized before they are converted

  private:
    void lay_out_outputs();
    void lay_out_blocks();
    void lay_out_vertical();

    std::vector<int32_t> first_, steps_, bias_, block_base_, block_quads_, block_at_, unit_, units_, row_bias_;
    AlignedBytes weights_, index_, vertical_weights_;
};

}  // namespace tledge
