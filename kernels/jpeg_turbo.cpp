// libjpeg-turbo's own API: jpeg_crop_scanline leaves columns out, jpeg_skip_scanlines rows.
#include <algorithm>
#include <csetjmp>
#include <cstdio>

#include <jpeglib.h>

#include "jpeg.h"

namespace tledge {
namespace {

// Columns beyond the window: chroma is interpolated from its neighbours, and the decoder takes the crop's edge for
// the image's.
constexpr int kMargin = 2;
// Readable bytes after the last row, so that no row need be copied for the kernels' wide loads.
constexpr size_t kReach = 256;

struct Errors {
    jpeg_error_mgr manager;
    std::jmp_buf leave;
};

void leave(j_common_ptr decoder) { std::longjmp(reinterpret_cast<Errors*>(decoder->err)->leave, 1); }
void say_nothing(j_common_ptr) {}

// Called for every row of blocks of every scan.
void count_scans(j_common_ptr any) {
    if (reinterpret_cast<j_decompress_ptr>(any)->input_scan_number > kMostScans) leave(any);
}

// A progressive file whose scans are not all there: the decoder smooths it.
bool incomplete(const jpeg_decompress_struct& decoder) {
    if (decoder.progressive_mode == FALSE || decoder.coef_bits == nullptr) return false;
    for (int c = 0; c < decoder.num_components; ++c) {
        for (int i = 0; i < DCTSIZE2; ++i) {
            if (decoder.coef_bits[c][i] != 0) return true;
        }
    }
    return false;
}

// Chroma of a quarter of the columns may be decoded at half of them and interpolated to the rest when it is scaled;
// jpeg_crop_scanline (libjpeg-turbo 2.1.5) then takes its width for half of what it is.
bool crops(const jpeg_decompress_struct& decoder, int scale) {
    return scale == 1 || (decoder.max_h_samp_factor <= 2 && decoder.max_v_samp_factor <= 2);
}

}  // namespace

bool jpeg_available() { return true; }

// No object with a destructor lives in this function: an error of the decoder jumps out of it.
bool decode_window(const Plan& plan, const uint8_t* data, size_t bytes, int scale, std::vector<uint8_t>& buffer,
                   Source* source) {
    jpeg_decompress_struct decoder;
    Errors errors;
    decoder.err = jpeg_std_error(&errors.manager);
    errors.manager.error_exit = leave;
    errors.manager.output_message = say_nothing;
    jpeg_create_decompress(&decoder);
    if (setjmp(errors.leave)) {
        jpeg_destroy_decompress(&decoder);
        return false;
    }
    jpeg_progress_mgr progress = {};
    progress.progress_monitor = count_scans;
    decoder.progress = &progress;
    jpeg_mem_src(&decoder, data, bytes);
    jpeg_read_header(&decoder, TRUE);
    decoder.out_color_space = JCS_RGB;
    decoder.scale_num = 1;
    decoder.scale_denom = scale;
    jpeg_start_decompress(&decoder);
    bool good = static_cast<int>(decoder.output_width) == plan.geometry.source_width &&
                static_cast<int>(decoder.output_height) == plan.geometry.source_height && !incomplete(decoder);
    if (good) {
        const int left = std::max(plan.x.lowest - kMargin, 0);
        const int right = std::min(plan.x.highest + kMargin, plan.geometry.source_width);
        JDIMENSION column = left, columns = right - left;
        if (crops(decoder, scale)) {
            jpeg_crop_scanline(&decoder, &column, &columns);
        } else {
            column = 0;
        }
        const size_t stride = 3 * static_cast<size_t>(decoder.output_width);
        const size_t rows = plan.y.highest - plan.y.lowest;
        const size_t needed = stride * rows + 3 * static_cast<size_t>(plan.geometry.source_width) + kReach;
        if (buffer.size() < needed) buffer.resize(needed);
        if (plan.y.lowest > 0) jpeg_skip_scanlines(&decoder, plan.y.lowest);
        for (size_t row = 0; row < rows;) {
            JSAMPROW target = buffer.data() + stride * row;
            row += jpeg_read_scanlines(&decoder, &target, 1);
        }
        *source = {buffer.data(), stride, needed, plan.y.lowest, static_cast<int>(column)};
        good = errors.manager.num_warnings == 0;
    }
    jpeg_abort_decompress(&decoder);
    jpeg_destroy_decompress(&decoder);
    return good;
}

}  // namespace tledge
