// The kernels' own source, compiled for the CPU: the grid is a loop, and NAME__host is what the stand-in driver calls.
#include <cstddef>
#include <cstdint>
#include <cstring>

struct Index {
    unsigned x, y, z;
};
static thread_local Index gridDim, blockDim, blockIdx, threadIdx;

#define __global__
#include "kernels.cu"
#include "tensors_grid.h"
#include "topk_grid.h"

namespace {

constexpr int kIllegalAddress = 700;

// Arguments are packed as the C structure of them would be.
template <typename Arguments, typename Kernel>
int over_grid(const unsigned grid[3], const unsigned block[3], const void* packed, Kernel kernel) {
    Arguments arguments;
    std::memcpy(&arguments, packed, sizeof arguments);
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    for (blockIdx.z = 0; blockIdx.z < grid[2]; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < grid[1]; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < grid[0]; ++blockIdx.x)
                for (threadIdx.z = 0; threadIdx.z < block[2]; ++threadIdx.z)
                    for (threadIdx.y = 0; threadIdx.y < block[1]; ++threadIdx.y)
                        for (threadIdx.x = 0; threadIdx.x < block[0]; ++threadIdx.x) kernel(arguments);
    return 0;
}

template <typename Logit>
int topk_over_grid(const unsigned grid[3], const unsigned block[3], const void* packed) {
    struct Arguments {
        const Logit* logits;
        int classes, k;
        int32_t* indices;
        float* probabilities;
        float temperature;
    } a;
    std::memcpy(&a, packed, sizeof a);
    if (block[0] != tledge::kThreads || block[1] * block[2] != 1) return kIllegalAddress;
    for (unsigned image = 0; image < grid[0]; ++image)
        topk_block(a.logits, a.classes, a.k, a.indices, a.probabilities, a.temperature, image);
    return 0;
}

}  // namespace

extern "C" int topk__host(const unsigned grid[3], const unsigned block[3], unsigned, const void* packed) {
    return topk_over_grid<float>(grid, block, packed);
}

extern "C" int topk_half__host(const unsigned grid[3], const unsigned block[3], unsigned, const void* packed) {
    return topk_over_grid<uint16_t>(grid, block, packed);
}

extern "C" int resample_rows__host(const unsigned grid[3], const unsigned block[3], unsigned, const void* packed) {
    struct Arguments {
        const uint8_t* pixels;
        const int32_t *starts, *weights;
        uint8_t* out;
        int rows, width, stride, taps;
    };
    return over_grid<Arguments>(grid, block, packed, [](const Arguments& a) {
        resample_rows(a.pixels, a.starts, a.weights, a.out, a.rows, a.width, a.stride, a.taps);
    });
}

extern "C" int scale_add__host(const unsigned grid[3], const unsigned block[3], unsigned, const void* packed) {
    struct Arguments {
        const float *x, *y;
        float* out;
        float a;
        int count;
    };
    return over_grid<Arguments>(grid, block, packed,
                                [](const Arguments& a) { scale_add(a.x, a.y, a.out, a.a, a.count); });
}

// Arguments are what one launch gives; a launch that the source would not stand is refused.
extern "C" int tensors__host(const unsigned grid[3], const unsigned block[3], unsigned, const void* packed) {
    TensorsArguments a;
    std::memcpy(&a, packed, offsetof(TensorsArguments, output) + sizeof a.output);  // packed has no padding at its end
    if (block[0] != tledge::kTile || block[1] != tledge::kTile || block[2] != 1) return kIllegalAddress;
    for (unsigned z = 0; z < grid[2]; ++z)
        for (unsigned y = 0; y < grid[1]; ++y)
            for (unsigned x = 0; x < grid[0]; ++x)
                tensors_block(a, static_cast<int>(x), static_cast<int>(y), static_cast<int>(z));
    return 0;
}

// How many bytes the kernel takes a task to have.
extern "C" int tensors_task_bytes() { return sizeof(tledge::Task); }

extern "C" int upload__host(const unsigned grid[3], const unsigned block[3], unsigned, const void* packed) {
    struct Arguments {
        const tledge::Words* from;
        tledge::Words* to;
    };
    return over_grid<Arguments>(grid, block, packed, [](const Arguments& a) {
        tledge::copy_arena(a.from, a.to, static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x,
                           static_cast<int64_t>(gridDim.x) * blockDim.x);
    });
}

// A kernel that reads where it must not: on a GPU the context is lost by that.
extern "C" int fault__host(const unsigned*, const unsigned*, unsigned, const void*) { return kIllegalAddress; }
