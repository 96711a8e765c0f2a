// kernels/tensors.cu with its grid as loops: a block's threads one after the other, up to the barrier and after it.
#pragma once

#include <cstring>

#include "tensors.cu"

struct TensorsArguments {
    const uint8_t* arena;
    const void* table;
    void* out;
    tledge::Output output;
};

inline void tensors_block(const TensorsArguments& a, int block_x, int block_y, int image) {
    using namespace tledge;
    const Task& task = task_of(a.arena, image);
    const Part part = part_of(task, a.arena, block_x, block_y);
    static thread_local Tile tile;
    std::memset(&tile, 0xCD, sizeof tile);
    for (int y = 0; y < kTile; ++y)
        for (int x = 0; x < kTile; ++x) fill_tile(task, a.arena, part, &tile, x, y);
    for (int y = 0; y < kTile; ++y)
        for (int x = 0; x < kTile; ++x)
            finish(task, a.arena, part, &tile, a.output, a.table, a.out, image, block_x * kTile + x, block_y * kTile + y);
}
