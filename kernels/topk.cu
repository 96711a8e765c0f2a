// The best few classes of each image of a batch and their probabilities, in one launch. Arithmetic: topk.h.
//
// Input: logits, images x classes, float32, or float16 for topk_half. Output: int32 indices and float32 probabilities,
// images x k, best first; beyond the number of classes -1 and 0; an image without a softmax has -1 and NaN. A block
// takes an image: each thread its part of the classes, then the best of all. A launch: grid (images), block (kThreads).
#include "topk.h"

#if defined(__CUDACC__)
#define TLEDGE_BLOCK __device__ __forceinline__
#else
#define TLEDGE_BLOCK static inline
#endif

namespace tledge {

constexpr int kThreads = 256, kFolds = 16;  // first each thread's, then 16 of 16 each, then those

struct Scratch {
    uint64_t each[kThreads];
    uint64_t folds[kFolds];
};

// One number out of each thread's. `all` runs a step for every thread of the block, and waits for all of them.
template <typename All, typename Part, typename Join>
TLEDGE_BLOCK uint64_t joined(Scratch* s, const All& all, const Part& part, const Join& join) {
    all([&](int thread) { s->each[thread] = part(thread); });
    all([&](int thread) {
        if (thread >= kFolds) return;
        uint64_t fold = s->each[thread];
        for (int i = thread + kFolds; i < kThreads; i += kFolds) fold = join(fold, s->each[i]);
        s->folds[thread] = fold;
    });
    uint64_t result = s->folds[0];
    for (int i = 1; i < kFolds; ++i) result = join(result, s->folds[i]);
    return result;
}

// The best key below `before` among a thread's classes, 0 if there is none.
template <typename Logit>
TLEDGE_LINE uint64_t next_best(const Logit* logits, float temperature, int classes, int thread, uint64_t before) {
    uint64_t best = 0;
    for (int i = thread; i < classes; i += kThreads) {
        const uint64_t key = key_of(scaled(logits[i], temperature), i);
        if (key < before && key > best) best = key;
    }
    return best;
}

template <typename Logit>
TLEDGE_LINE uint64_t terms(const Logit* logits, float temperature, int classes, int thread, float largest) {
    int64_t sum = 0;
    for (int i = thread; i < classes; i += kThreads) sum += term(scaled(logits[i], temperature), largest);
    return static_cast<uint64_t>(sum);
}

// A block's work.
template <typename Logit, typename All>
TLEDGE_BLOCK void best_of_image(const Logit* logits, int classes, int k, int32_t* indices, float* probabilities,
                                float temperature, Scratch* s, const All& all) {
    uint64_t key = kBeforeAll;
    float largest = 0.0f;
    int64_t sum = 0;
    for (int i = 0; i < k; ++i) {
        const auto next = [&](int thread) { return next_best(logits, temperature, classes, thread, key); };
        key = joined(s, all, next, [](uint64_t a, uint64_t b) { return a > b ? a : b; });
        if (i == 0) {
            if (!has_softmax(key)) {
                all([&](int thread) {
                    for (int j = thread; j < k; j += kThreads) {
                        indices[j] = -1;
                        probabilities[j] = float_of(0x7FC00000u);
                    }
                });
                return;
            }
            largest = value_of(key);
            const auto part = [&](int thread) { return terms(logits, temperature, classes, thread, largest); };
            sum = static_cast<int64_t>(joined(s, all, part, [](uint64_t a, uint64_t b) { return a + b; }));
        }
        all([&](int thread) {
            if (thread != 0) return;
            indices[i] = key == 0 ? -1 : index_of(key);
            probabilities[i] = key == 0 ? 0.0f : probability(value_of(key), largest, sum);
        });
    }
}

}  // namespace tledge

#if defined(__CUDACC__)
struct Block {
    template <typename Step>
    __device__ __forceinline__ void operator()(const Step& step) const {
        step(static_cast<int>(threadIdx.x));
        __syncthreads();
    }
};

extern "C" __global__ void __launch_bounds__(tledge::kThreads)
    topk(const float* logits, int classes, int k, int32_t* indices, float* probabilities, float temperature) {
    __shared__ tledge::Scratch scratch;
    const size_t image = blockIdx.x;
    tledge::best_of_image(logits + image * classes, classes, k, indices + image * k, probabilities + image * k,
                          temperature, &scratch, Block());
}

extern "C" __global__ void __launch_bounds__(tledge::kThreads)
    topk_half(const uint16_t* logits, int classes, int k, int32_t* indices, float* probabilities, float temperature) {
    __shared__ tledge::Scratch scratch;
    const size_t image = blockIdx.x;
    tledge::best_of_image(logits + image * classes, classes, k, indices + image * k, probabilities + image * k,
                          temperature, &scratch, Block());
}
#endif
