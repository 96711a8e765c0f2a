// The host's twin of topk.cu: the same bits, by sorting.
#include <algorithm>
#include <functional>
#include <new>
#include <vector>

#include "abi.h"
#include "topk.h"

using namespace tledge;

namespace {

template <typename Logit>
void best_of_images(const Logit* logits, int64_t images, int classes, int k, int32_t* indices, float* probabilities,
                    float temperature) {
    std::vector<uint64_t> keys(static_cast<size_t>(classes));
    const int given = std::min(k, classes);
    for (; images > 0; --images, logits += classes, indices += k, probabilities += k) {
        for (int i = 0; i < classes; ++i) keys[i] = key_of(scaled(logits[i], temperature), i);
        std::partial_sort(keys.begin(), keys.begin() + given, keys.end(), std::greater<uint64_t>());
        std::fill(indices, indices + k, -1);
        if (!has_softmax(keys[0])) {
            std::fill(probabilities, probabilities + k, float_of(0x7FC00000u));
            continue;
        }
        std::fill(probabilities, probabilities + k, 0.0f);
        const float largest = value_of(keys[0]);
        int64_t sum = 0;
        for (int i = 0; i < classes; ++i) sum += term(scaled(logits[i], temperature), largest);
        for (int i = 0; i < given; ++i) {
            indices[i] = index_of(keys[i]);
            probabilities[i] = probability(value_of(keys[i]), largest, sum);
        }
    }
}

}  // namespace

int tledge_topk(const void* logits, int bytes, int64_t images, int classes, int k, float temperature,
                int32_t* indices, float* probabilities) {
    constexpr int kInvalid = -1, kNoMemory = -2;
    if (logits == nullptr || indices == nullptr || probabilities == nullptr) return kInvalid;
    if ((bytes != 2 && bytes != 4) || images < 0 || classes < 1 || classes > kLargestClasses || k < 1) return kInvalid;
    if (!(temperature > 0.0f)) return kInvalid;
    try {
        if (bytes == 4) {
            best_of_images(static_cast<const float*>(logits), images, classes, k, indices, probabilities, temperature);
        } else {
            best_of_images(static_cast<const uint16_t*>(logits), images, classes, k, indices, probabilities, temperature);
        }
    } catch (const std::bad_alloc&) {
        return kNoMemory;
    }
    return 0;
}
