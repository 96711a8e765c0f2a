// A camera's frame, row by row, as the resampling reads images: 8-bit, interleaved, red first.
#pragma once

#include <cstddef>
#include <cstdint>

#include "abi.h"

namespace tledge {

// Whether the planes that the format needs are there, with strides that hold their rows, and the matrix's sums fit.
bool makes_sense(const tledge_frame& frame);

// Columns begin .. end - 1 of a row, written to rgb + 3 * begin.
void convert_row(const tledge_frame& frame, int row, int begin, int end, uint8_t* rgb);

}  // namespace tledge
