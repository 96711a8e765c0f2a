// Runs a plan over the pixels of an image.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "plan.h"

namespace tledge {

// Normalisation tables with the byte planes that the wide look-ups read.
struct Table {
    Table(const void* entries, int bytes, const double* lines);
    EmissionTable view() const;

    int bytes;
    AlignedBytes entries, planes;
    Line lines[3] = {};
    int exact[3] = {};

  private:
    void verify_lines(const double* known);
};

// Pixels that are there: the rows from first_row on, each from first_column on; `bytes` from `pixels` on may be
// read. A whole image begins at row and column 0.
struct Source {
    const uint8_t* pixels;
    size_t stride;
    size_t bytes;
    int first_row;
    int first_column;
    const tledge_frame* frame = nullptr;  // instead of pixels: its rows are converted when they are read, or as they leave
};

Source whole_image(const Plan& plan, const uint8_t* pixels, size_t stride);
Source whole_frame(const tledge_frame& frame);

// Output rows begin .. end - 1. Without a table the output is the image before normalisation: 8-bit,
// interleaved, red first.
void run_rows(const Plan& plan, const Table* table, const Source& source, void* out, int begin, int end);

// A packed image of `count` pixels, normalised without resampling.
void normalise(const RowKernels& kernels, const Table& table, const uint8_t* samples, size_t count,
               bool channels_last, const int32_t* order, void* out);

}  // namespace tledge
