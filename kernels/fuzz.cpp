// A libFuzzer target for the C interface: any geometry, pixels, camera frame, and bytes that may be a JPEG. Beside what the
// sanitizers find, it stops where two instruction sets, or a window decode and a full one, give different bytes.
//
// An input is a head (taken from its beginning, as `Bytes` reads it) and what is left: a JPEG, or pixels.
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include <jpeglib.h>

#include "abi.h"

namespace {

constexpr int64_t kMostPixels = 1 << 18;  // of a source or an output that is run: larger ones only cost time

class Bytes {
  public:
    Bytes(const uint8_t* data, size_t size) : at_(data), left_(size) {}
    uint32_t take(int bytes) {  // little-endian; zeros past the end
        uint32_t value = 0;
        for (int i = 0; i < bytes && left_ > 0; ++i, ++at_, --left_) value |= static_cast<uint32_t>(*at_) << 8 * i;
        return value;
    }
    int32_t between(int32_t low, int32_t high) { return low + static_cast<int32_t>(take(2) % (high - low + 1)); }
    const uint8_t* at() const { return at_; }
    size_t left() const { return left_; }

  private:
    const uint8_t* at_;
    size_t left_;
};

int best_set() {
    int set = 0;
    while (!tledge_set_runs_here(set)) ++set;
    return set;
}

[[noreturn]] void stop(const char* reason) {
    std::fprintf(stderr, "%s\n", reason);
    std::abort();
}

// A geometry that makes sense, of a source of this size.
tledge_geometry sensible(Bytes& bytes, int32_t width, int32_t height) {
    tledge_geometry g = {};
    g.source_width = width;
    g.source_height = height;
    g.resized_width = bytes.between(1, 400);
    g.resized_height = bytes.between(1, 400);
    g.left = bytes.between(0, g.resized_width - 1);
    g.top = bytes.between(0, g.resized_height - 1);
    g.width = bytes.between(1, g.resized_width - g.left);
    g.height = bytes.between(1, g.resized_height - g.top);
    g.pad_left = bytes.between(0, 9);
    g.pad_top = bytes.between(0, 9);
    g.output_width = g.pad_left + g.width + bytes.between(0, 9);
    g.output_height = g.pad_top + g.height + bytes.between(0, 9);
    g.filter = bytes.between(0, 5);
    g.channels_last = bytes.between(0, 1);
    for (int c = 0; c < 3; ++c) g.order[c] = bytes.between(0, 2);
    for (int c = 0; c < 3; ++c) g.fill[c] = bytes.between(0, 255);
    return g;
}

// Any numbers, as a caller in another language might pass them.
tledge_geometry arbitrary(Bytes& bytes) {
    static_assert(sizeof(tledge_geometry) % sizeof(int32_t) == 0, "the geometry is 32-bit integers only");
    int32_t fields[sizeof(tledge_geometry) / sizeof(int32_t)];
    for (int32_t& field : fields) field = static_cast<int32_t>(bytes.take(4));
    tledge_geometry g;
    std::memcpy(&g, fields, sizeof(g));
    return g;
}

struct Handles {
    Handles(const tledge_geometry& geometry, int set, int bytes) : plan(tledge_plan_new(&geometry, set)) {
        std::vector<uint8_t> entries(static_cast<size_t>(3) * 256 * bytes);
        for (size_t i = 0; i < entries.size(); ++i) entries[i] = static_cast<uint8_t>(i * 167 + (i >> 8));
        table = tledge_table_new(entries.data(), bytes, nullptr);
    }
    ~Handles() {
        tledge_plan_free(plan);
        tledge_table_free(table);
    }
    void* plan;
    void* table;
};

// What a plan gives to the GPU reads no sample outside the image.
void check_axes(const void* plan, const tledge_geometry& g) {
    for (int axis = 0; axis < (g.chroma == 0 ? 2 : 4); ++axis) {
        const int outputs = axis % 2 == 0 ? g.width : g.height, whole = axis % 2 == 0 ? g.source_width : g.source_height;
        const int source = axis == 2 || (axis == 3 && g.chroma == 2) ? (whole + 1) / 2 : whole;
        std::vector<int32_t> values(static_cast<size_t>(tledge_plan_axis(plan, axis, nullptr)));
        tledge_plan_axis(plan, axis, values.data());
        const int taps = static_cast<int>(values.size()) / outputs - 2;
        for (int i = 0; i < outputs; ++i) {
            const int first = values[i], count = values[outputs + i];
            if (first < 0 || count < 1 || count > taps || first + count > source) stop("an axis leaves the image");
        }
    }
}

// run: given a plan, a table and the output, returns the interface's code.
template <typename Run>
void run_every_set(const tledge_geometry& g, int bytes, Run run) {
    const size_t size = static_cast<size_t>(3) * bytes * g.output_width * g.output_height;
    std::vector<uint8_t> first;
    for (int set = 0; tledge_set_name(set) != nullptr; ++set) {
        if (!tledge_set_runs_here(set)) continue;
        const Handles handles(g, set, bytes);
        if (handles.plan == nullptr) stop("a sensible geometry was refused");
        check_axes(handles.plan, g);
        std::vector<uint8_t> out(size, 0xAA);
        if (run(handles.plan, handles.table, out.data()) != 0) stop("run failed");
        if (first.empty()) first = out;
        if (first != out) stop("two instruction sets give different bytes");
    }
}

struct Errors {
    jpeg_error_mgr manager;
    std::jmp_buf leave;
};

// The whole image, or false where the decoder gives up. Nothing with a destructor lives here (longjmp).
bool decode(const uint8_t* data, size_t bytes, int scale, uint8_t* pixels) {
    jpeg_decompress_struct decoder;
    Errors errors;
    decoder.err = jpeg_std_error(&errors.manager);
    errors.manager.error_exit = [](j_common_ptr any) { std::longjmp(reinterpret_cast<Errors*>(any->err)->leave, 1); };
    errors.manager.output_message = [](j_common_ptr) {};
    jpeg_create_decompress(&decoder);
    if (setjmp(errors.leave)) {
        jpeg_destroy_decompress(&decoder);
        return false;
    }
    jpeg_mem_src(&decoder, data, bytes);
    jpeg_read_header(&decoder, TRUE);
    decoder.out_color_space = JCS_RGB;
    decoder.scale_num = 1;
    decoder.scale_denom = scale;
    jpeg_start_decompress(&decoder);
    while (decoder.output_scanline < decoder.output_height) {
        JSAMPROW row = pixels + static_cast<size_t>(3) * decoder.output_width * decoder.output_scanline;
        jpeg_read_scanlines(&decoder, &row, 1);
    }
    jpeg_destroy_decompress(&decoder);
    return true;
}

void run_jpeg(Bytes& bytes, int entry_bytes, int threads, int scale, bool exif) {
    // The head is read before the size is known, so that the JPEG begins at the same byte whatever its size.
    tledge_geometry g = sensible(bytes, 1, 1);
    int32_t width = 0, height = 0;
    const int64_t size = static_cast<int64_t>(bytes.left());
    if (tledge_jpeg_size(bytes.at(), size, exif, &width, &height) != 0) return;
    if (static_cast<int64_t>(width) * height > kMostPixels) return;
    width = (width + scale - 1) / scale;
    height = (height + scale - 1) / scale;
    g.source_width = width;
    g.source_height = height;
    const Handles handles(g, best_set(), entry_bytes);
    if (handles.plan == nullptr) stop("a sensible geometry was refused");
    std::vector<uint8_t> out(static_cast<size_t>(3) * entry_bytes * g.output_width * g.output_height);
    if (tledge_run_jpeg(handles.plan, handles.table, bytes.at(), size, scale, out.data(), threads, nullptr) != 0) return;
    std::vector<uint8_t> pixels(static_cast<size_t>(3) * width * height), expected(out.size());
    if (!decode(bytes.at(), bytes.left(), scale, pixels.data())) return;  // damage below the window
    tledge_run(handles.plan, handles.table, pixels.data(), 3 * static_cast<int64_t>(width), expected.data(), 1);
    if (out != expected) stop("the window's decode differs from a full one");
}

// A plane that ends where its memory ends, so that a read past it is found.
std::unique_ptr<uint8_t[]> plane(const Bytes& bytes, int64_t stride, int64_t row_bytes, int64_t rows) {
    const size_t size = static_cast<size_t>(stride * (rows - 1) + row_bytes);
    std::unique_ptr<uint8_t[]> memory(new uint8_t[size]);
    for (size_t i = 0; i < size; ++i) {
        memory[i] = bytes.left() > 0 ? bytes.at()[i % bytes.left()] : static_cast<uint8_t>(i * 37);
    }
    return memory;
}

void run_frame(Bytes& bytes, int entry_bytes, int threads, bool planes_first) {
    tledge_frame frame = {};
    frame.format = bytes.between(0, 7);
    frame.width = bytes.between(1, 300);
    frame.height = bytes.between(1, 300);
    frame.between_columns = bytes.between(0, 1);
    frame.between_rows = bytes.between(0, 1);
    for (int32_t& each : frame.matrix) each = static_cast<int32_t>(bytes.take(4));
    tledge_geometry g = sensible(bytes, frame.width, frame.height);
    if (planes_first && frame.format <= 4) {
        g.chroma = frame.format <= 2 ? 2 : 1;
        g.between_columns = frame.between_columns;
        g.between_rows = frame.between_rows;
    }
    // Bytes of a row of each plane; the second and third planes have half the rows.
    const int64_t width = frame.width, half = (width + 1) / 2;
    const int64_t rows[8][3] = {{width, 2 * half, 0}, {width, 2 * half, 0}, {width, half, half}, {4 * half, 0, 0},
                                {4 * half, 0, 0},     {4 * width, 0, 0},    {4 * width, 0, 0},   {width, 0, 0}};
    std::unique_ptr<uint8_t[]> planes[3];
    for (int i = 0; i < 3; ++i) {
        const int64_t row_bytes = rows[frame.format][i];
        if (row_bytes == 0) continue;
        frame.strides[i] = row_bytes + bytes.between(0, 40);
        planes[i] = plane(bytes, frame.strides[i], row_bytes, i == 0 ? frame.height : (frame.height + 1) / 2);
        frame.planes[i] = planes[i].get();
    }
    bool sound = true;
    std::vector<uint8_t> out(static_cast<size_t>(3) * entry_bytes * g.output_width * g.output_height);
    {
        const Handles handles(g, best_set(), entry_bytes);
        sound = tledge_run_frame(handles.plan, handles.table, &frame, out.data(), 1) == 0;
    }
    if (!sound) return;  // a matrix that no 32-bit sum holds
    run_every_set(g, entry_bytes, [&](void* plan, void* table, uint8_t* to) {
        return tledge_run_frame(plan, table, &frame, to, threads);
    });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Bytes bytes(data, size);
    const uint32_t kind = bytes.take(1), options = bytes.take(1);
    const int entry_bytes = 1 << options % 3, threads = 1 + options / 4 % 3;
    if (kind % 4 == 0) {
        run_jpeg(bytes, entry_bytes, threads, 1 << (options >> 5 & 3), (options & 128) != 0);
        return 0;
    }
    if (kind % 4 == 3) {
        run_frame(bytes, entry_bytes, threads, (options & 32) != 0);
        return 0;
    }
    tledge_geometry g;
    if (kind % 4 == 1) {
        const int32_t width = bytes.between(1, 300), height = bytes.between(1, 300);
        g = sensible(bytes, width, height);
    } else {
        g = arbitrary(bytes);
        void* plan = tledge_plan_new(&g, best_set());
        tledge_plan_free(plan);
        if (plan == nullptr || g.chroma != 0) return 0;
        if (static_cast<int64_t>(g.source_width) * g.source_height > kMostPixels) return 0;
        if (static_cast<int64_t>(g.output_width) * g.output_height > kMostPixels) return 0;
    }
    const int64_t row_bytes = 3 * static_cast<int64_t>(g.source_width), stride = row_bytes + bytes.between(0, 40);
    const std::unique_ptr<uint8_t[]> pixels = plane(bytes, stride, row_bytes, g.source_height);
    run_every_set(g, entry_bytes, [&](void* plan, void* table, uint8_t* out) {
        return tledge_run(plan, table, pixels.get(), stride, out, threads);
    });
    return 0;
}
