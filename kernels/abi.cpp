#include "abi.h"

#include <algorithm>
#include <atomic>
#include <ctime>
#include <new>
#include <vector>

#include "frame.h"
#include "jpeg.h"
#include "plan.h"
#include "pool.h"
#include "resample.h"

namespace {

using tledge::Plan;
using tledge::Source;
using tledge::Table;

constexpr int kInvalid = -1;
constexpr int kNoMemory = -2;
constexpr int kUnsupported = -3;
constexpr int kLargestSource = 1 << 20;
constexpr int kLargestOutput = 1 << 14;
// Source bytes below which a second thread costs more than it saves.
constexpr int64_t kWorthAThread = 512 * 1024;

bool inside(int64_t low, int64_t value, int64_t high) { return low <= value && value <= high; }

bool makes_sense(const tledge_geometry& g) {
    bool good = inside(1, g.source_width, kLargestSource) && inside(1, g.source_height, kLargestSource) &&
                g.resized_width >= 1 && g.resized_height >= 1 && inside(1, g.output_width, kLargestOutput) &&
                inside(1, g.output_height, kLargestOutput) && g.width >= 1 && g.height >= 1 && g.left >= 0 &&
                g.top >= 0 && g.pad_left >= 0 && g.pad_top >= 0 && inside(0, g.filter, 5);
    good = good && static_cast<int64_t>(g.left) + g.width <= g.resized_width &&
           static_cast<int64_t>(g.top) + g.height <= g.resized_height &&
           static_cast<int64_t>(g.pad_left) + g.width <= g.output_width &&
           static_cast<int64_t>(g.pad_top) + g.height <= g.output_height;
    for (int c = 0; c < 3; ++c) good = good && inside(0, g.order[c], 2) && inside(0, g.fill[c], 255);
    return good && inside(0, g.chroma, 2) && inside(0, g.between_columns, 1) && inside(0, g.between_rows, 1);
}

bool fits(const Plan& plan, const uint8_t* pixels, int64_t stride, const void* out) {
    return plan.chroma == nullptr && pixels != nullptr && out != nullptr && stride >= 3 * static_cast<int64_t>(plan.geometry.source_width);
}

bool fits(const Plan& plan, const tledge_frame& frame, const void* out) {
    const tledge_geometry& g = plan.geometry;
    return out != nullptr && tledge::makes_sense(frame) && frame.width == g.source_width && frame.height == g.source_height &&
           (plan.chroma == nullptr || tledge::has_chroma(frame, g.chroma, g.between_columns != 0, g.between_rows != 0));
}

struct Bands {
    const Plan* plan;
    const Table* table;
    Source source;
    void* out;
    int bands;
    std::atomic<bool> failed{false};

    // Runs on any thread of the pool, so that no exception may leave it.
    static void work(void* context, int band) {
        Bands& all = *static_cast<Bands*>(context);
        const int64_t rows = all.plan->geometry.output_height;
        const int begin = static_cast<int>(rows * band / all.bands);
        const int end = static_cast<int>(rows * (band + 1) / all.bands);
        try {
            tledge::run_rows(*all.plan, all.table, all.source, all.out, begin, end);
        } catch (const std::bad_alloc&) {
            all.failed = true;
        }
    }
};

struct Batch {
    const void* const* plans;
    const Table* table;
    const uint8_t* const* pixels;
    const int64_t* strides;
    const tledge_frame* const* frames;
    uint8_t* out;
    std::atomic<bool> failed{false};

    static void work(void* context, int i) {
        Batch& all = *static_cast<Batch*>(context);
        const Plan& plan = *static_cast<const Plan*>(all.plans[i]);
        const tledge_geometry& g = plan.geometry;
        const size_t bytes = static_cast<size_t>(3) * all.table->bytes * g.output_width * g.output_height;
        try {
            const tledge_frame* frame = all.frames == nullptr ? nullptr : all.frames[i];
            const Source source = frame != nullptr ? tledge::whole_frame(*frame)
                                                   : tledge::whole_image(plan, all.pixels[i], all.strides[i]);
            tledge::run_rows(plan, all.table, source, all.out + i * bytes, 0, g.output_height);
        } catch (const std::bad_alloc&) {
            all.failed = true;
        }
    }
};

template <typename Work>
int share(int count, int threads, Work& work) {
    try {
        tledge::parallel_for(count, threads, Work::work, &work);
    } catch (const std::bad_alloc&) {
        return kNoMemory;
    }
    return work.failed ? kNoMemory : 0;
}

// One image, its output rows in as many bands as are worth a thread.
int run(const Plan& plan, const void* table, const Source& source, void* out, int threads) {
    const int64_t window = static_cast<int64_t>(plan.x.highest - plan.x.lowest) * plan.channels * (plan.y.highest - plan.y.lowest);
    const int useful = static_cast<int>(std::min<int64_t>(threads, 1 + window / kWorthAThread));
    const int bands = std::max(1, std::min(useful, plan.geometry.output_height));
    Bands work{&plan, static_cast<const Table*>(table), source, out, bands};
    return share(bands, bands, work);
}

thread_local std::vector<uint8_t> jpeg_pixels;

// The clock of Python's time.perf_counter_ns.
int64_t now() {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<int64_t>(time.tv_sec) * 1000000000 + time.tv_nsec;
}

}  // namespace

extern "C" {

int tledge_abi_version(void) { return TLEDGE_ABI_VERSION; }

const char* tledge_set_name(int index) {
    const tledge::RowKernels* set = tledge::row_kernels(index);
    return set == nullptr ? nullptr : set->name;
}

int tledge_set_runs_here(int index) { return tledge::row_kernels_run_here(index) ? 1 : 0; }

void* tledge_plan_new(const tledge_geometry* geometry, int set) {
    if (geometry == nullptr || !makes_sense(*geometry) || !tledge::row_kernels_run_here(set)) return nullptr;
    try {
        const tledge::RowKernels* kernels = tledge::row_kernels(set);
        return new Plan(*geometry, geometry->chroma == 0 ? *kernels : *kernels->planes);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

void tledge_plan_free(void* plan) { delete static_cast<Plan*>(plan); }

int64_t tledge_plan_axis(const void* plan, int axis, int32_t* to) {
    const Plan* known = static_cast<const Plan*>(plan);
    if (known != nullptr && axis >= 2) {
        known = known->chroma.get();
        axis -= 2;
    }
    if (known == nullptr || !inside(0, axis, 1)) return kInvalid;
    const tledge::Axis& from = axis == 0 ? known->x : known->y;
    if (to != nullptr) {
        to = std::copy(from.first.begin(), from.first.end(), to);
        to = std::copy(from.count.begin(), from.count.end(), to);
        std::copy(from.weights.begin(), from.weights.end(), to);
    }
    return static_cast<int64_t>(from.first.size() + from.count.size() + from.weights.size());
}

void* tledge_table_new(const void* entries, int bytes, const double* lines) {
    if (entries == nullptr || (bytes != 1 && bytes != 2 && bytes != 4)) return nullptr;
    try {
        return new Table(entries, bytes, lines);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

void tledge_table_free(void* table) { delete static_cast<Table*>(table); }

int tledge_run(const void* plan, const void* table, const uint8_t* pixels, int64_t stride, void* out, int threads) {
    const Plan* known = static_cast<const Plan*>(plan);
    if (known == nullptr || !fits(*known, pixels, stride, out)) return kInvalid;
    return run(*known, table, tledge::whole_image(*known, pixels, stride), out, threads);
}

int tledge_run_frame(const void* plan, const void* table, const tledge_frame* frame, void* out, int threads) {
    const Plan* known = static_cast<const Plan*>(plan);
    if (known == nullptr || frame == nullptr || !fits(*known, *frame, out)) return kInvalid;
    return run(*known, table, tledge::whole_frame(*frame), out, threads);
}

int tledge_run_batch(int count, const void* const* plans, const void* table, const uint8_t* const* pixels,
                     const int64_t* strides, const tledge_frame* const* frames, void* out, int threads) {
    if (count < 0 || table == nullptr) return kInvalid;
    for (int i = 0; i < count; ++i) {
        if (plans[i] == nullptr) return kInvalid;
        const Plan& plan = *static_cast<const Plan*>(plans[i]);
        const bool is_frame = frames != nullptr && frames[i] != nullptr;
        if (is_frame ? !fits(plan, *frames[i], out) : !fits(plan, pixels[i], strides[i], out)) return kInvalid;
    }
    Batch work{plans, static_cast<const Table*>(table), pixels, strides, frames, static_cast<uint8_t*>(out)};
    return share(count, threads, work);
}

int tledge_jpeg_available(void) { return tledge::jpeg_available() ? 1 : 0; }

int tledge_jpeg_size(const uint8_t* data, int64_t bytes, int exif, int32_t* width, int32_t* height) {
    if (data == nullptr || bytes < 0 || width == nullptr || height == nullptr) return kInvalid;
    return tledge::jpeg_size(data, static_cast<size_t>(bytes), exif != 0, width, height) ? 0 : kUnsupported;
}

int tledge_run_jpeg(const void* plan, const void* table, const uint8_t* data, int64_t bytes, int scale, void* out,
                    int threads, int64_t* decoded) {
    const Plan* known = static_cast<const Plan*>(plan);
    if (known == nullptr || known->chroma != nullptr || data == nullptr || bytes < 0 || out == nullptr) return kInvalid;
    if (scale != 1 && scale != 2 && scale != 4 && scale != 8) return kInvalid;
    Source source;
    try {
        const size_t size = static_cast<size_t>(bytes);
        if (!tledge::decode_window(*known, data, size, scale, jpeg_pixels, &source)) return kUnsupported;
    } catch (const std::bad_alloc&) {
        return kNoMemory;
    }
    if (decoded != nullptr) *decoded = now();
    return run(*known, table, source, out, threads);
}

int tledge_normalise(int set, const void* table, const uint8_t* samples, int64_t pixels, int channels_last,
                     const int32_t* order, void* out) {
    if (!tledge::row_kernels_run_here(set) || table == nullptr || pixels < 0 || order == nullptr) return kInvalid;
    for (int c = 0; c < 3; ++c) {
        if (!inside(0, order[c], 2)) return kInvalid;
    }
    tledge::normalise(*tledge::row_kernels(set), *static_cast<const Table*>(table), samples,
                      static_cast<size_t>(pixels), channels_last != 0, order, out);
    return 0;
}

}  // extern "C"
