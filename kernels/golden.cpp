// Runs every instruction set of this machine over the golden cases, through the C interface alone, and prints a
// line for each: set, case, hash of the bytes; then "topk", case and hash of the best classes of random logits. A program rather than a Python test, so that it also runs where
// there is no Python: built for arm64, under qemu's user emulation.
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <vector>

#include "abi.h"

namespace {

// SplitMix64 (Steele, Lea, Flood 2014): the same bytes on every machine.
struct Random {
    uint64_t state;
    uint64_t next() {
        uint64_t z = (state += 0x9E3779B97F4A7C15u);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        return z ^ (z >> 31);
    }
};

uint64_t fnv1a(const std::vector<uint8_t>& bytes) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (const uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3u;
    return hash;
}

const tledge_geometry kCases[] = {
    // source, resized, window, output, pad, filter, channels last, order, fill
    {500, 375, 341, 256, 58, 16, 224, 224, 224, 224, 0, 0, 2, 0, {0, 1, 2}, {0, 0, 0}},
    {97, 131, 64, 86, 0, 11, 64, 64, 64, 64, 0, 0, 1, 0, {2, 1, 0}, {0, 0, 0}},
    {640, 480, 96, 72, 0, 0, 96, 72, 96, 96, 0, 12, 3, 0, {0, 1, 2}, {114, 114, 114}},
    {61, 47, 200, 150, 0, 0, 200, 150, 200, 150, 0, 0, 4, 1, {0, 1, 2}, {0, 0, 0}},
    {1920, 1080, 455, 256, 116, 16, 224, 224, 224, 224, 0, 0, 5, 0, {0, 1, 2}, {0, 0, 0}},
    {333, 777, 50, 60, 0, 0, 50, 60, 50, 60, 0, 0, 0, 0, {0, 1, 2}, {0, 0, 0}},
    {1, 1, 30, 20, 0, 0, 30, 20, 30, 20, 0, 0, 5, 0, {0, 1, 2}, {0, 0, 0}},
    {3000, 2, 17, 33, 0, 0, 17, 33, 17, 33, 0, 0, 2, 1, {0, 1, 2}, {0, 0, 0}},
};

// What a frame's numbers mean: BT.601 limited left, 709 full centre, 2020 limited top-left.
struct Meaning {
    int32_t between_columns, between_rows, matrix[6];
};
const Meaning kMeanings[] = {
    {0, 1, {16, 76309, 104597, -25675, -53279, 132201}},
    {1, 1, {0, 65536, 103206, -12276, -30679, 121609}},
    {0, 0, {16, 76309, 110014, -12277, -42626, 140363}},
};
constexpr int kFormats = 8, kYuvFormats = 5;
// Of odd sizes, and large enough to be shared among threads.
const tledge_geometry kFrameCase = {701, 403, 227, 131, 3, 2, 220, 126, 226, 130, 2, 1, 2, 0, {0, 1, 2}, {9, 8, 7}};

std::vector<uint8_t> noise(Random& random, size_t size) {
    std::vector<uint8_t> bytes(size);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.next() >> 32);
    return bytes;
}

void print(int set, int number, const std::vector<uint8_t>& out) {
    std::printf("%s %d %016" PRIx64 "\n", tledge_set_name(set), number, fnv1a(out));
}

// A frame of each format and meaning, its rows not packed, by one thread and by three; converted first, or resized.
bool run_frames(int set, int number, bool planes_first) {
    const int64_t stride = 4 * static_cast<int64_t>(kFrameCase.source_width) + 9;
    Random random{static_cast<uint64_t>(number)};
    const std::vector<uint8_t> bytes = noise(random, static_cast<size_t>(stride) * kFrameCase.source_height);
    const std::vector<uint8_t> entries = noise(random, 3 * 256);
    void* table = tledge_table_new(entries.data(), 1, nullptr);
    bool good = true;
    for (int format = 0; format < (planes_first ? kYuvFormats : kFormats); ++format) {
        for (const Meaning& meaning : kMeanings) {
            if (format >= kYuvFormats && &meaning != kMeanings) continue;
            tledge_frame frame = {};
            frame.format = format;
            frame.width = kFrameCase.source_width;
            frame.height = kFrameCase.source_height;
            frame.between_columns = meaning.between_columns;
            frame.between_rows = meaning.between_rows;
            for (int i = 0; i < 6; ++i) frame.matrix[i] = meaning.matrix[i];
            for (int plane = 0; plane < 3; ++plane) {
                frame.planes[plane] = bytes.data() + stride / 3 * plane;
                frame.strides[plane] = stride;
            }
            tledge_geometry geometry = kFrameCase;
            if (planes_first) {
                geometry.chroma = format <= 2 ? 2 : 1;
                geometry.between_columns = meaning.between_columns;
                geometry.between_rows = meaning.between_rows;
            }
            void* plan = tledge_plan_new(&geometry, set);
            for (int threads = 1; threads <= 3; threads += 2) {
                std::vector<uint8_t> out(static_cast<size_t>(3) * kFrameCase.output_width * kFrameCase.output_height);
                good = good && tledge_run_frame(plan, table, &frame, out.data(), threads) == 0;
                print(set, number++, out);
            }
            tledge_plan_free(plan);
        }
    }
    tledge_table_free(table);
    return good;
}

// The best classes of three images and their probabilities, of logits of 4 bytes or of 2.
bool topk_case(int number, int bytes, int classes, int k) {
    constexpr int kImages = 3;
    Random random{static_cast<uint64_t>(number)};
    std::vector<uint16_t> halves(static_cast<size_t>(kImages) * classes);
    std::vector<float> floats(halves.size());
    for (size_t i = 0; i < halves.size(); ++i) {
        const uint64_t bits = random.next();
        halves[i] = static_cast<uint16_t>((bits & 0x8000u) | (bits % 0x5000u));  // up to 32 in size
        floats[i] = static_cast<float>(static_cast<int32_t>(bits >> 32)) * 1.1920929e-8f;  // up to 26
    }
    std::vector<int32_t> indices(static_cast<size_t>(kImages) * k);
    std::vector<float> probabilities(indices.size());
    const void* logits = bytes == 4 ? static_cast<const void*>(floats.data()) : halves.data();
    if (tledge_topk(logits, bytes, kImages, classes, k, 1.0f + 0.25f * number, indices.data(),
                    probabilities.data()) != 0)
        return false;
    std::vector<uint8_t> out(indices.size() * 8);
    std::memcpy(out.data(), indices.data(), indices.size() * 4);
    std::memcpy(out.data() + indices.size() * 4, probabilities.data(), indices.size() * 4);
    std::printf("topk %d %016" PRIx64 "\n", number, fnv1a(out));
    return true;
}

}  // namespace

int main() {
    for (int set = 0; tledge_set_name(set) != nullptr; ++set) {
        if (!tledge_set_runs_here(set)) continue;
        int number = 0;
        for (const tledge_geometry& geometry : kCases) {
            for (int bytes = 1; bytes <= 4; bytes *= 2) {
                Random random{static_cast<uint64_t>(number)};
                const std::vector<uint8_t> pixels =
                    noise(random, static_cast<size_t>(3) * geometry.source_width * geometry.source_height);
                const std::vector<uint8_t> entries = noise(random, static_cast<size_t>(3) * 256 * bytes);
                std::vector<uint8_t> out(static_cast<size_t>(3) * bytes * geometry.output_width * geometry.output_height);
                void* plan = tledge_plan_new(&geometry, set);
                void* table = tledge_table_new(entries.data(), bytes, nullptr);
                const int code = tledge_run(plan, table, pixels.data(), 3 * geometry.source_width, out.data(), 2);
                tledge_table_free(table);
                tledge_plan_free(plan);
                if (code != 0) return 1;
                print(set, number++, out);
            }
        }
        // 2 threads' lines of each of 18 frames come before.
        if (!run_frames(set, number, false) || !run_frames(set, number + 36, true)) return 1;
    }
    int number = 0;
    for (const int classes : {1, 5, 300, 1000})
        for (const int bytes : {4, 2})
            for (const int k : {5, classes})
                if (!topk_case(number++, bytes, classes, k)) return 1;
    return 0;
}
