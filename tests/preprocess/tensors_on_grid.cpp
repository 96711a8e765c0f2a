// The GPU's kernel (kernels/tensors.cu) with its grid as loops, against the library: random batches of images of
// different sizes, filters, types, layouts, orders and borders. Prints how many tensors were compared and how many of
// their tiles did not fit into shared memory; ends with 1 at the first byte that differs.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "abi.h"
#include "axis.h"
#include "tensors.cu"

using namespace tledge;

namespace {

std::mt19937 random_bits;

int between(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_bits); }

AxisAt put(std::vector<int32_t>& to, const Axis& axis) {
    const AxisAt at{static_cast<int32_t>(to.size()), axis.outputs, axis.stride};
    to.insert(to.end(), axis.first.begin(), axis.first.end());
    to.insert(to.end(), axis.count.begin(), axis.count.end());
    to.insert(to.end(), axis.weights.begin(), axis.weights.end());
    return at;
}

tledge_geometry draw(const Output& output) {
    tledge_geometry g{};
    const bool tall = between(0, 3) == 0;  // so tall that tiles do not fit
    g.source_width = between(1, 300);
    g.source_height = tall ? between(1500, 4000) : between(1, 500);
    g.output_width = output.width;
    g.output_height = output.height;
    g.width = between(1, output.width);
    g.height = between(1, output.height);
    g.pad_left = between(0, output.width - g.width);
    g.pad_top = between(0, output.height - g.height);
    g.left = between(0, 40);
    g.top = between(0, 40);
    g.resized_width = g.left + g.width + between(0, 40);
    g.resized_height = g.top + g.height + between(0, 40);
    g.filter = between(0, 5);
    g.channels_last = output.channels_last;
    const bool turned = between(0, 1) != 0;
    for (int c = 0; c < 3; ++c) {
        g.order[c] = turned ? 2 - c : c;
        g.fill[c] = between(0, 255);
    }
    return g;
}

int tiles(int side) { return (side + kTile - 1) / kTile; }

}  // namespace

int main(int count, char** words) {
    const int batches = count > 1 ? std::atoi(words[1]) : 100;
    int compared = 0, overflowed = 0, set = 0;
    while (!tledge_set_runs_here(set)) ++set;
    for (int batch = 0; batch < batches; ++batch) {
        const Output output{between(1, 90), between(1, 90), 1 << between(0, 2), between(0, 1)};
        const size_t bytes = static_cast<size_t>(3) * output.bytes * output.width * output.height;
        std::vector<uint8_t> table(3 * 256 * output.bytes);
        for (uint8_t& byte : table) byte = static_cast<uint8_t>(between(0, 255));
        void* known_table = tledge_table_new(table.data(), output.bytes, nullptr);
        std::vector<int32_t> coefficients;
        std::vector<Task> tasks;
        std::vector<std::vector<uint8_t>> sources;
        const int images = between(1, 4);
        std::vector<uint8_t> expected(images * bytes), out(images * bytes, 0xCD);
        for (int i = 0; i < images; ++i) {
            const tledge_geometry g = draw(output);
            const int room = between(0, 9);
            const int pixel = 3 + between(0, 1);
            const int packed = 3 * g.source_width, stride = pixel * g.source_width + room;
            std::vector<uint8_t> rgb(static_cast<size_t>(packed) * g.source_height);
            for (uint8_t& byte : rgb) byte = static_cast<uint8_t>(random_bits());
            void* plan = tledge_plan_new(&g, set);
            if (plan == nullptr || tledge_run(plan, known_table, rgb.data(), packed, expected.data() + i * bytes, 1) != 0)
                return 2;
            tledge_plan_free(plan);
            // What a camera gives has its fourth byte, and blue first.
            std::vector<uint8_t> source(static_cast<size_t>(stride) * g.source_height, 0xEE);
            for (int y = 0; y < g.source_height; ++y)
                for (int x = 0; x < g.source_width; ++x)
                    for (int c = 0; c < 3; ++c)
                        source[static_cast<size_t>(y) * stride + pixel * x + (pixel == 4 ? 2 - c : c)] =
                            rgb[static_cast<size_t>(y) * packed + 3 * x + c];
            sources.push_back(std::move(source));
            Task task{sources.back().data(), stride, {}, {}, g.pad_left, g.pad_top, pixel, {}, {}};
            const Filter filter = static_cast<Filter>(g.filter);
            task.x = put(coefficients, make_axis(g.source_width, g.resized_width, g.left, g.width, filter));
            task.y = put(coefficients, make_axis(g.source_height, g.resized_height, g.top, g.height, filter));
            for (int c = 0; c < 3; ++c) {
                task.order[c] = pixel == 4 ? 2 - g.order[c] : g.order[c];
                task.fill[c] = g.fill[g.order[c]];
            }
            tasks.push_back(task);
        }
        for (int z = 0; z < images; ++z)
            for (int tile_y = 0; tile_y < tiles(output.height); ++tile_y)
                for (int tile_x = 0; tile_x < tiles(output.width); ++tile_x) {
                    const Part part = part_of(tasks[z], coefficients.data(), tile_x, tile_y);
                    overflowed += part.rows > kSharedRows;
                    static Tile tile;
                    std::memset(&tile, 0xCD, sizeof tile);
                    for (int y = 0; y < kTile; ++y)
                        for (int x = 0; x < kTile; ++x) fill_tile(tasks[z], coefficients.data(), part, &tile, x, y);
                    for (int y = 0; y < kTile; ++y)
                        for (int x = 0; x < kTile; ++x)
                            finish(tasks[z], coefficients.data(), part, &tile, output, table.data(), out.data(), z,
                                   tile_x * kTile + x, tile_y * kTile + y);
                }
        tledge_table_free(known_table);
        if (out != expected) return 1;
        compared += images;
    }
    std::printf("%d %d\n", compared, overflowed);
    return 0;
}
