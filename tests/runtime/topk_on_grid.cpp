// The GPU's kernel (kernels/topk.cu) with its block as loops, against the host's twin, which sorts: random logits with
// ties, infinities and NaN, in both types. Prints how many images were compared and how many of them had no softmax;
// ends with 1 at the first bit that differs.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "abi.h"
#include "topk_grid.h"

namespace {

std::mt19937 random_bits;

int between(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_bits); }

template <typename Logit>
bool equal(const std::vector<Logit>& logits, int images, int classes, int k, float temperature, int* without) {
    std::vector<int32_t> indices(static_cast<size_t>(images) * k, 7), expected(indices);
    std::vector<float> probabilities(indices.size(), 7.0f), known(probabilities);
    for (int image = 0; image < images; ++image) {
        topk_block(logits.data(), classes, k, indices.data(), probabilities.data(), temperature, image);
        *without += indices[static_cast<size_t>(image) * k] < 0;
    }
    if (tledge_topk(logits.data(), sizeof(Logit), images, classes, k, temperature, expected.data(), known.data()) != 0)
        return false;
    return indices == expected && std::memcmp(probabilities.data(), known.data(), known.size() * sizeof(float)) == 0;
}

float draw(int kind, float scale) {
    if (kind == 0) return static_cast<float>(between(-3, 3));  // ties, both zeros
    const float value = std::normal_distribution<float>(0.0f, scale)(random_bits);
    return kind == 1 && between(0, 3) == 0 ? -0.0f : value;
}

}  // namespace

int main(int count, char** words) {
    const int batches = count > 1 ? std::atoi(words[1]) : 1000;
    const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    const float special[] = {infinity, -infinity, nan, -nan, 3.4e38f, -3.4e38f, 1e-45f, -0.0f};
    int compared = 0, without = 0;
    for (int batch = 0; batch < batches; ++batch) {
        const int classes = between(0, 3) == 0 ? between(1, 4) : between(1, 1500);
        const int images = between(1, 3), k = between(1, between(0, 1) ? 5 : classes + 3), kind = between(0, 2);
        const float temperature = between(0, 1) ? 1.0f : 0.3f + 0.01f * between(0, 300);
        const float scale = std::ldexp(1.0f, between(-3, 8));
        std::vector<float> logits(static_cast<size_t>(images) * classes);
        for (float& value : logits) value = draw(kind, scale);
        if (between(0, 2) == 0) logits[between(0, static_cast<int>(logits.size()) - 1)] = special[between(0, 7)];
        if (between(0, 9) == 0) std::fill(logits.begin(), logits.begin() + classes, -infinity);
        if (!equal(logits, images, classes, k, temperature, &without)) return 1;
        std::vector<uint16_t> half(logits.size());
        for (uint16_t& bits : half) bits = static_cast<uint16_t>(between(0, between(0, 999) ? 0x7BFF : 0xFFFF));
        if (!equal(half, images, classes, k, temperature, &without)) return 1;
        compared += 2 * images;
    }
    std::printf("%d %d\n", compared, without);
    return 0;
}
