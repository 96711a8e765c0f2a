// Pillow's precompute_coeffs and normalize_coeffs_8bpc (src/libImaging/Resample.c), and the table of its
// nearest-neighbour path (ImagingScaleAffine, Geometry.c), operation by operation: a double rounded elsewhere
// could move a coefficient by one.
#include "axis.h"

#include <algorithm>
#include <cmath>

#include "lines.h"

namespace tledge {
namespace {

constexpr double kPi = 3.14159265358979323846;

double box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

// Pillow's `x < 1.0 ? 1.0 - x : 0.0` without a branch, so that several weights are made at a time.
inline double bilinear(double x) {
    const double weight = 1.0 - std::fabs(x);
    return weight > 0.0 ? weight : 0.0;
}

double hamming(double x) {
    if (x < 0.0) x = -x;
    if (x == 0.0) return 1.0;
    if (x >= 1.0) return 0.0;
    x = x * kPi;
    // The constants are floats there.
    return std::sin(x) / x * (0.54f + 0.46f * std::cos(x));
}

double bicubic(double x) {
    constexpr double a = -0.5;
    if (x < 0.0) x = -x;
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

double sinc(double x) {
    if (x == 0.0) return 1.0;
    x = x * kPi;
    return std::sin(x) / x;
}

double lanczos(double x) { return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0; }

// Pillow adds the step output by output, from the first one of the whole image.
void fill_nearest(Axis& axis, int source, int resized, int begin) {
    const double step = static_cast<double>(source) / resized;
    double position = 0.0 + step * 0.5;
    axis.stride = 1;
    axis.weights.assign(axis.outputs, 1 << kPrecision);
    for (int i = 0; i < begin; ++i) position += step;
    for (int i = 0; i < axis.outputs; ++i, position += step) {
        axis.first[i] = std::min(static_cast<int>(position), source - 1);
        axis.count[i] = 1;
    }
}

// Leaving zeros out can make one output begin behind the next; some of them are put back.
void keep_in_order(Axis& axis) {
    for (int i = axis.outputs - 2; i >= 0; --i) {
        const int back = axis.first[i] - axis.first[i + 1];
        if (back <= 0) continue;
        int32_t* weights = axis.weights.data() + static_cast<size_t>(i) * axis.stride;
        std::copy_backward(weights, weights + axis.count[i], weights + axis.count[i] + back);
        std::fill(weights, weights + back, 0);
        axis.first[i] -= back;
        axis.count[i] += back;
    }
}

// Samples, how many of them there are to an output, and where the first output's begin, in samples.
struct Sampling {
    int samples;
    double scale, shift;
};

template <double (*weight_of)(double)>
void fill_filtered(Axis& axis, const Sampling& line, int begin, double filter_support) {
    const int source = line.samples;
    const double scale = line.scale;
    const double filter_scale = scale < 1.0 ? 1.0 : scale;
    const double support = filter_support * filter_scale;
    const double inverse = 1.0 / filter_scale;
    const int taps = static_cast<int>(std::ceil(support)) * 2 + 1;
    std::vector<double> weights(taps);
    axis.stride = std::min(taps, source);
    axis.weights.assign(static_cast<size_t>(axis.outputs) * axis.stride, 0);
    for (int i = 0; i < axis.outputs; ++i) {
        double centre = line.shift + (static_cast<double>(begin) + i + 0.5) * scale;
        // What is shifted beyond the last sample is that sample.
        if (line.shift > 0.0) centre = std::min(centre, source - 0.5);
        int first = std::max(static_cast<int>(centre - support + 0.5), 0);
        int count = std::min(static_cast<int>(centre + support + 0.5), source) - first;
        double* __restrict__ exact = weights.data();
        int32_t* __restrict__ fixed = axis.weights.data() + static_cast<size_t>(i) * axis.stride;
        for (int x = 0; x < count; ++x) exact[x] = weight_of((x + first - centre + 0.5) * inverse);
        double total = 0.0;
        for (int x = 0; x < count; ++x) total += exact[x];
        if (total == 0.0) total = 1.0;
        for (int x = 0; x < count; ++x) {
            const double weight = exact[x] / total;
            const double scaled = weight * (1 << kPrecision);
            fixed[x] = static_cast<int>(scaled + (weight < 0 ? -0.5 : 0.5));
        }
        while (count > 1 && fixed[count - 1] == 0) --count;
        int skipped = 0;
        while (skipped < count - 1 && fixed[skipped] == 0) ++skipped;
        std::copy(fixed + skipped, fixed + count, fixed);
        std::fill(fixed + count - skipped, fixed + count, 0);
        axis.first[i] = first + skipped;
        axis.count[i] = count - skipped;
    }
    keep_in_order(axis);
}

Axis axis_of(const Sampling& line, int begin, int outputs, Filter filter) {
    Axis axis;
    axis.outputs = outputs;
    axis.first.resize(outputs);
    axis.count.resize(outputs);
    switch (filter) {
        case Filter::nearest: break;
        case Filter::box: fill_filtered<box>(axis, line, begin, 0.5); break;
        case Filter::bilinear: fill_filtered<bilinear>(axis, line, begin, 1.0); break;
        case Filter::hamming: fill_filtered<hamming>(axis, line, begin, 1.0); break;
        case Filter::bicubic: fill_filtered<bicubic>(axis, line, begin, 2.0); break;
        case Filter::lanczos: fill_filtered<lanczos>(axis, line, begin, 3.0); break;
    }
    return axis;
}

void measure(Axis& axis) {
    axis.lowest = axis.first[0];
    for (int i = 0; i < axis.outputs; ++i) {
        axis.lowest = std::min(axis.lowest, axis.first[i]);
        axis.highest = std::max(axis.highest, axis.first[i] + axis.count[i]);
    }
}

}  // namespace

Axis make_axis(int source, int resized, int begin, int outputs, Filter filter) {
    Axis axis = axis_of({source, static_cast<double>(source) / resized, 0.0}, begin, outputs, filter);
    if (filter == Filter::nearest) fill_nearest(axis, source, resized, begin);
    measure(axis);
    return axis;
}

Axis make_chroma_axis(int source, int resized, int begin, int outputs, Filter filter, bool between) {
    const double scale = static_cast<double>(source) / resized / 2;
    Axis axis = axis_of({(source + 1) / 2, scale, between ? 0.0 : 0.25}, begin, outputs, filter);
    if (filter == Filter::nearest) {
        fill_nearest(axis, source, resized, begin);
        for (int& first : axis.first) first /= 2;
    }
    measure(axis);
    return axis;
}

}  // namespace tledge
