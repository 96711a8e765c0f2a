// Kernels for the tests of tledge.cuda: one source for nvcc, NVRTC and (host_kernels.cpp) the CPU.
#include "lines.h"

// One horizontal pass of the exact resampling: a thread a sample, `taps` weights for each column.
// pixels: rows x stride bytes; starts: width; weights: width x taps; out: rows x width bytes.
extern "C" __global__ void resample_rows(const uint8_t* pixels, const int32_t* starts, const int32_t* weights,
                                         uint8_t* out, int rows, int width, int stride, int taps) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= rows) return;
    out[y * width + x] = tledge::sample(pixels + y * stride + starts[x], 1, weights + x * taps, taps);
}

// a * x + y, rounded twice: with a fused multiply-add the bits would differ.
extern "C" __global__ void scale_add(const float* x, const float* y, float* out, float a, int count) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = a * x[i] + y[i];
}
