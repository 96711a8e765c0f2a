// Lays the coefficients of a geometry out for an instruction set.
//
// signed_bytes: a weight is three digits in base 256, each from -128 to 127, so that four taps are one step of
// a byte dot product a digit; the sums are put together modulo 2^32, where the true sum fits.
// halves: a weight is an unsigned low part of 11 bits and a signed high part, two taps a step of a 16-bit one.
#include "plan.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "colour.h"
#include "lines.h"

namespace tledge {
namespace {

constexpr int kBlock = 16;  // samples
constexpr int kMostEvenPairs = 8;
constexpr int kDigits = 3;
constexpr int32_t kLargestDigits = 127 << 16;  // what three signed digits hold, less a little
constexpr int kCacheLine = 64;

// Puts a weight into byte `tap` of each of three words that are `step` words apart.
void put_digits(int32_t weight, int tap, int32_t* words, int step) {
    for (int digit = 0; digit < kDigits; ++digit) {
        const int8_t low = static_cast<int8_t>(weight & 255);
        reinterpret_cast<int8_t*>(words + digit * step)[tap] = low;
        weight = (weight - low) >> 8;
    }
}

// Puts a weight into half `tap` of two words, low parts and high parts.
void put_halves(int32_t weight, int tap, int32_t* words) {
    const int32_t low = weight & 2047;
    reinterpret_cast<int16_t*>(words)[tap] = static_cast<int16_t>(low);
    reinterpret_cast<int16_t*>(words + 1)[tap] = static_cast<int16_t>((weight - low) >> 11);
}

int32_t bias_of(const Axis& axis, int output) {
    uint32_t sum = 0;
    for (int i = 0; i < axis.count[output]; ++i) sum += static_cast<uint32_t>(axis.of(output)[i]);
    return static_cast<int32_t>(static_cast<uint32_t>(kHalf) + 128u * sum);
}

int32_t largest(const Axis& axis) {
    int32_t most = 0;
    for (const int32_t weight : axis.weights) most = std::max(most, std::abs(weight));
    return most;
}

}  // namespace

void AlignedBytes::allocate(size_t bytes) {
    const size_t whole = (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
    data_.reset(static_cast<uint8_t*>(std::aligned_alloc(kCacheLine, std::max<size_t>(whole, kCacheLine))));
    if (data_ == nullptr) throw std::bad_alloc();
    std::memset(data_.get(), 0, whole);
}

Plan::Plan(const tledge_geometry& wanted, const RowKernels& set)
    : Plan(wanted, set,
           make_axis(wanted.source_width, wanted.resized_width, wanted.left, wanted.width, static_cast<Filter>(wanted.filter)),
           make_axis(wanted.source_height, wanted.resized_height, wanted.top, wanted.height, static_cast<Filter>(wanted.filter)),
           wanted.chroma == kNoChroma ? 3 : 1) {
    if (wanted.chroma == kNoChroma) return;
    const Filter filter = static_cast<Filter>(wanted.filter);
    tledge_geometry of_plane = wanted;
    of_plane.source_width = (wanted.source_width + 1) / 2;
    Axis across = make_chroma_axis(wanted.source_width, wanted.resized_width, wanted.left, wanted.width, filter,
                                   wanted.between_columns != 0);
    Axis down = y;
    if (wanted.chroma == kHalfBoth) {
        of_plane.source_height = (wanted.source_height + 1) / 2;
        down = make_chroma_axis(wanted.source_height, wanted.resized_height, wanted.top, wanted.height, filter,
                                wanted.between_rows != 0);
    }
    chroma = std::make_unique<const Plan>(of_plane, set, std::move(across), std::move(down), 2);
}

Plan::Plan(const tledge_geometry& wanted, const RowKernels& set, Axis across, Axis down, int samples)
    : geometry(wanted),
      kernels(&set),
      channels(samples),
      x(std::move(across)),
      y(std::move(down)),
      horizontal{},
      vertical{} {
    // No filter makes such weights from any size known; the digits could not hold them.
    if (std::max(largest(x), largest(y)) >= kLargestDigits) kernels = &kScalar;
    horizontal.width = wanted.width;
    horizontal.channels = channels;
    // The vertical pass knows samples only, in threes.
    vertical.width = (channels * wanted.width + 2) / 3;
    if (kernels->digits == Digits::none) {
        horizontal.first = x.first.data();
        horizontal.count = x.count.data();
        horizontal.weights = x.weights.data();
        horizontal.stride = x.stride;
        row_reach = channels * static_cast<size_t>(x.highest);
    } else {
        lay_out_outputs();
        if (kernels->block_span > 0 && channels == 3) lay_out_blocks();
    }
    lay_out_vertical();
}

void Plan::lay_out_outputs() {
    const bool bytes = kernels->digits == Digits::signed_bytes;
    const int taps = bytes ? 4 : 2, words = bytes ? kDigits : 2;  // of a step
    first_ = x.first;
    steps_.resize(x.outputs);
    bias_.resize(x.outputs);
    int most = 0;
    row_reach = 0;
    for (int i = 0; i < x.outputs; ++i) {
        // Pairs lie where they do in every output, so that pixels are put together once.
        if (!bytes) first_[i] -= (first_[i] - x.lowest) & 1;
        steps_[i] = (x.first[i] + x.count[i] - first_[i] + taps - 1) / taps;
        bias_[i] = bias_of(x, i);
        most = std::max(most, steps_[i]);
        const size_t last = channels * (static_cast<size_t>(first_[i]) + taps * (steps_[i] - 1));
        row_reach = std::max(row_reach, last + kernels->reach);
    }
    if (!bytes && most <= kMostEvenPairs) {
        // A loop of the same length everywhere is worth more than the zeros.
        horizontal.pairs = most;
        for (int i = 0; i < x.outputs; ++i) {
            steps_[i] = most;
            row_reach = std::max(row_reach, channels * (static_cast<size_t>(first_[i]) + taps * (most - 1)) + kernels->reach);
        }
    }
    weights_.allocate(sizeof(int32_t) * x.outputs * most * words);
    for (int i = 0; i < x.outputs; ++i) {
        int32_t* to = weights_.as<int32_t>() + static_cast<size_t>(i) * most * words;
        for (int tap = 0; tap < x.count[i]; ++tap) {
            const int at = x.first[i] - first_[i] + tap;
            if (bytes) {
                put_digits(x.of(i)[tap], at & 3, to + (at >> 2) * kDigits, 1);
            } else {
                put_halves(x.of(i)[tap], at & 1, to + (at >> 1) * 2);
            }
        }
    }
    horizontal.first = first_.data();
    horizontal.count = steps_.data();
    horizontal.weights = weights_.as<int32_t>();
    horizontal.stride = most * words;
    horizontal.bias = bias_.data();
}

// Sixteen samples (5 1/3 pixels) at a time, where the source bytes of one quad of theirs fit in one gather.
void Plan::lay_out_blocks() {
    const int samples = 3 * x.outputs;
    const int blocks = (samples + kBlock - 1) / kBlock;
    block_base_.resize(blocks);
    block_quads_.resize(blocks);
    block_at_.resize(blocks);
    int span = 0, words = 0;
    for (int b = 0; b < blocks; ++b) {
        int low = INT32_MAX, high = 0, quads = 0;
        for (int s = b * kBlock; s < std::min(samples, (b + 1) * kBlock); ++s) {
            low = std::min(low, 3 * x.first[s / 3] + s % 3);
            high = std::max(high, 3 * x.first[s / 3] + s % 3 + 10);
            quads = std::max(quads, steps_[s / 3]);
        }
        block_base_[b] = low;
        block_quads_[b] = quads;
        block_at_[b] = words;
        words += quads * kDigits * kBlock;
        span = std::max(span, high - low);
    }
    if (span > kernels->block_span) return;
    horizontal.span = span <= 64 ? 64 : 128;
    index_.allocate(static_cast<size_t>(blocks) * kCacheLine);
    weights_.allocate(sizeof(int32_t) * words);
    row_reach = 0;
    for (int b = 0; b < blocks; ++b) {
        int32_t* digits = weights_.as<int32_t>() + block_at_[b];
        for (int s = b * kBlock; s < std::min(samples, (b + 1) * kBlock); ++s) {
            const int lane = s % kBlock, pixel = s / 3;
            for (int tap = 0; tap < 4; ++tap) {
                const int offset = 3 * (x.first[pixel] + tap) + s % 3 - block_base_[b];
                index_.as<uint8_t>()[b * kCacheLine + 4 * lane + tap] = static_cast<uint8_t>(offset);
            }
            for (int tap = 0; tap < x.count[pixel]; ++tap) {
                put_digits(x.of(pixel)[tap], tap & 3, digits + tap / 4 * kDigits * kBlock + lane, kBlock);
            }
        }
        const size_t last = block_base_[b] + 12 * static_cast<size_t>(block_quads_[b] - 1);
        row_reach = std::max(row_reach, last + horizontal.span);
    }
    horizontal.blocks = blocks;
    horizontal.base = block_base_.data();
    horizontal.quads = block_quads_.data();
    horizontal.at = block_at_.data();
    horizontal.index = index_.as<uint8_t>();
    horizontal.weights = weights_.as<int32_t>();
}

void Plan::lay_out_vertical() {
    const int rows = kernels->unit;
    const int words = kernels->digits == Digits::none ? 1 : (kernels->digits == Digits::halves ? 2 : kDigits);
    unit_.resize(y.outputs);
    units_.resize(y.outputs);
    row_bias_.resize(y.outputs);
    int most = 1;
    for (int i = 0; i < y.outputs; ++i) {
        const int first = y.first[i] - y.lowest;
        unit_[i] = first / rows;
        units_[i] = (first + y.count[i] - 1) / rows - unit_[i] + 1;
        row_bias_[i] = bias_of(y, i);
        most = std::max(most, units_[i]);
        most_groups = std::max(most_groups, groups_of(i));
    }
    vertical_weights_.allocate(sizeof(int32_t) * y.outputs * most * words);
    for (int i = 0; i < y.outputs; ++i) {
        int32_t* to = vertical_weights_.as<int32_t>() + static_cast<size_t>(i) * most * words;
        const int skipped = y.first[i] - y.lowest - unit_[i] * rows;
        for (int tap = 0; tap < y.count[i]; ++tap) {
            const int row = skipped + tap;
            switch (kernels->digits) {
                case Digits::signed_bytes: put_digits(y.of(i)[tap], row & 3, to + (row >> 2) * kDigits, 1); break;
                case Digits::halves: put_halves(y.of(i)[tap], row & 1, to + (row >> 1) * 2); break;
                case Digits::none: to[row] = y.of(i)[tap]; break;
            }
        }
    }
    vertical.unit = unit_.data();
    vertical.units = units_.data();
    vertical.weights = vertical_weights_.as<int32_t>();
    vertical.stride = most * words;
    vertical.bias = row_bias_.data();
}

int Plan::first_group(int row) const { return unit_[row] * kernels->unit / kernels->rows; }

int Plan::groups_of(int row) const {
    const int last = (unit_[row] + units_[row] - 1) * kernels->unit / kernels->rows;
    return last - first_group(row) + 1;
}

// The last group may be short of rows; its last one is then repeated, under weights of zero.
int Plan::source_row(int group, int row_in_group) const {
    return std::min(y.lowest + group * kernels->rows + row_in_group, y.highest - 1);
}

}  // namespace tledge
