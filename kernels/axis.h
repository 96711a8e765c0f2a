// The coefficients of one axis, as Pillow makes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tledge {

enum class Filter : int { nearest = 0, box = 1, bilinear = 2, hamming = 3, bicubic = 4, lanczos = 5 };

// For each output in the window: the source samples first[i] .. first[i] + count[i] - 1 and their weights, at
// weights[i * stride]. Weights that are zero at either end are left out where that keeps `first` in order;
// count is at least 1.
struct Axis {
    int outputs = 0;
    int stride = 0;
    int lowest = 0;   // the first source sample that any output reads
    int highest = 0;  // one past the last
    std::vector<int> first, count;
    std::vector<int32_t> weights;

    const int32_t* of(int output) const { return weights.data() + static_cast<size_t>(output) * stride; }
};

// Outputs begin .. begin + outputs - 1 of a resize from `source` to `resized` samples.
Axis make_axis(int source, int resized, int begin, int outputs, Filter filter);

// The same outputs of chroma, of which there are (source + 1) / 2 samples: between two luma samples, or on the first of
// them. Nearest takes the chroma sample of the luma one that it takes.
Axis make_chroma_axis(int source, int resized, int begin, int outputs, Filter filter, bool between);

}  // namespace tledge
