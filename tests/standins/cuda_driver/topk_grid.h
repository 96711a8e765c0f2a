// kernels/topk.cu with its block as loops: the threads take turns at each step.
#pragma once

#include "topk.cu"

struct Turns {
    template <typename Step>
    void operator()(const Step& step) const {
        for (int thread = 0; thread < tledge::kThreads; ++thread) step(thread);
    }
};

template <typename Logit>
void topk_block(const Logit* logits, int classes, int k, int32_t* indices, float* probabilities, float temperature,
                size_t image) {
    tledge::Scratch scratch;
    std::memset(&scratch, 0xCD, sizeof scratch);
    tledge::best_of_image(logits + image * classes, classes, k, indices + image * k, probabilities + image * k,
                          temperature, &scratch, Turns());
}
