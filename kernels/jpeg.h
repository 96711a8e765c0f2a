// JPEG straight to the window: libjpeg-turbo decodes only the rows and columns that a plan reads.
//
// Only what gives the bits of a full decode is taken on; everything else is Unsupported, and the caller decodes
// the whole file by other means: other codings than Huffman's, other than 1 or 3 components of 8 bits, files with
// a warning of the decoder, or that do not end as a JPEG must, progressive ones whose last scans are missing (the
// decoder then smooths across the window's edge), more than 500 scans, and, where EXIF counts, an image that is not
// upright.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "plan.h"
#include "resample.h"

namespace tledge {

// A scan of 100 bytes may go through all blocks of a large image, and a file hold any number of them ("Two Issues with
// the JPEG Standard", libjpeg-turbo.org, LJT-01-003). Real files have about ten; 500 is what other decoders allow.
constexpr int kMostScans = 500;

// Whether this library was built with a decoder.
bool jpeg_available();

// The size of a JPEG that decode_window would take on; false: unsupported. Reads the headers only.
bool jpeg_size(const uint8_t* data, size_t bytes, bool exif, int* width, int* height);

// Decodes what the plan reads into `buffer`; false: unsupported. scale: 1, 2, 4 or 8; the plan is of the image that
// the decoder makes by a smaller inverse DCT, ceil(side / scale) pixels a side.
bool decode_window(const Plan& plan, const uint8_t* data, size_t bytes, int scale, std::vector<uint8_t>& buffer,
                   Source* source);

}  // namespace tledge
