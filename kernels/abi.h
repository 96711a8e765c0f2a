/* The C interface of the kernels.
 *
 * Pixels are 8-bit, red first, 3 bytes a pixel, rows `stride` bytes apart (stride >= 3 * width). A plan belongs
 * to one geometry and one instruction set and is only read afterwards: any number of threads may run it at
 * once. Functions return 0, or a negative number for an argument that makes no sense; those that return a
 * pointer return NULL then, or where memory is short.
 */
#ifndef TLEDGE_ABI_H
#define TLEDGE_ABI_H

#include <stddef.h>
#include <stdint.h>

#define TLEDGE_ABI_VERSION 10

#if defined(__cplusplus)
extern "C" {
#endif

#define TLEDGE_API __attribute__((visibility("default")))

/* What is resized to what, where the window lies in it, and where that lies in the output; all in pixels. */
typedef struct tledge_geometry {
    int32_t source_width, source_height;
    int32_t resized_width, resized_height;
    int32_t left, top, width, height;
    int32_t output_width, output_height, pad_left, pad_top;
    int32_t filter;          /* 0 nearest, 1 box, 2 bilinear, 3 hamming, 4 bicubic, 5 lanczos */
    int32_t channels_last;   /* 0: three planes; 1: interleaved */
    int32_t order[3];        /* the tensor's channel i is the image's channel order[i] */
    int32_t fill[3];         /* of the border: red, green, blue */
    int32_t chroma;          /* 0: pixels, and frames converted before they are resized; else a Y'CbCr frame's planes, resized
                                before they are converted: 1, chroma has half the columns; 2, half the rows, too */
    int32_t between_columns, between_rows; /* of such a frame's siting, as in tledge_frame */
} tledge_geometry;

/* A camera's frame (kernels/colour.h): 0 NV12, 1 NV21, 2 I420, 3 YUYV, 4 UYVY, 5 BGRx, 6 RGBA, 7 grey. */
typedef struct tledge_frame {
    int32_t format, width, height;
    int32_t between_columns, between_rows; /* siting: chroma between two luma samples (1) or on the first (0) */
    int32_t matrix[6];                     /* black level, 0 to 255; luma, red of V, green of U and V, blue of U: 16 fractional
                                              bits, -16.0 to 16.0 */
    const uint8_t* planes[3];
    int64_t strides[3];                    /* bytes from row to row; at least a row of the plane */
} tledge_frame;

TLEDGE_API int tledge_abi_version(void);

/* The instruction sets compiled in, best first. name: NULL past the last. */
TLEDGE_API const char* tledge_set_name(int index);
TLEDGE_API int tledge_set_runs_here(int index);

TLEDGE_API void* tledge_plan_new(const tledge_geometry* geometry, int set);
TLEDGE_API void tledge_plan_free(void* plan);

/* The coefficients of a plan's axis (0 horizontal, 1 vertical; 2 and 3: of its chroma planes), as the GPU takes them (kernels/tensors.cu): first[n],
 * count[n], then weights[n * stride], n being the window's outputs. Returns how many int32 values they are, which
 * are written to `to` unless it is NULL, or a negative number. */
TLEDGE_API int64_t tledge_plan_axis(const void* plan, int axis, int32_t* to);

/* 3 x 256 entries of 1, 2 or 4 bytes, first index the tensor's channel; copied. lines: NULL, or a slope and an
 * offset a channel of which float32 entries are values: an entry is looked up or computed, whichever is faster,
 * once all 256 of the channel have been found equal. */
TLEDGE_API void* tledge_table_new(const void* entries, int bytes, const double* lines);
TLEDGE_API void tledge_table_free(void* table);

/* One image to one tensor, its rows shared among `threads` threads. */
TLEDGE_API int tledge_run(const void* plan, const void* table, const uint8_t* pixels, int64_t stride, void* out,
                          int threads);

/* The same of a camera's frame: converted to red, green and blue row by row and then resampled; or the other way round, of
 * a format and siting for which the plan was made. */
TLEDGE_API int tledge_run_frame(const void* plan, const void* table, const tledge_frame* frame, void* out, int threads);

/* `count` images, each with its own plan, to tensors that follow one another, shared among `threads`. frames: NULL,
 * or an entry an image: NULL, or the frame that is taken instead of its pixels. */
TLEDGE_API int tledge_run_batch(int count, const void* const* plans, const void* table,
                                const uint8_t* const* pixels, const int64_t* strides,
                                const tledge_frame* const* frames, void* out, int threads);

/* JPEG bytes to one tensor, decoding only what the plan reads; the bits of a full decode. -3: not a JPEG that the
 * kernels take on (kernels/jpeg.h says which); decode it by other means. Call tledge_jpeg_size first, for the
 * plan. exif: whether an image that its EXIF block turns is refused. scale: 1; or 2, 4 or 8 for a plan of the image that a
 * smaller inverse DCT makes, ceil(side / scale) pixels a side, which are not the pixels of the whole one resized. decoded:
 * NULL, or where to write the time (CLOCK_MONOTONIC, ns) at which the pixels were there and resampling began. */
TLEDGE_API int tledge_jpeg_available(void);
TLEDGE_API int tledge_jpeg_size(const uint8_t* data, int64_t bytes, int exif, int32_t* width, int32_t* height);
TLEDGE_API int tledge_run_jpeg(const void* plan, const void* table, const uint8_t* data, int64_t bytes, int scale,
                               void* out, int threads, int64_t* decoded);

/* One packed image of `pixels` pixels to a tensor, without resampling. order: as in the geometry. */
TLEDGE_API int tledge_normalise(int set, const void* table, const uint8_t* samples, int64_t pixels,
                                int channels_last, const int32_t* order, void* out);

/* Logits, images x classes, entries of `bytes` bytes (4: float32, 2: float16), to the k best classes of each image and
 * their probabilities, images x k, best first: kernels/topk.h. temperature: above 0; logits are divided by it. Beyond the number of classes -1 and 0; an image whose
 * logits are not finite has -1 and NaN. classes: 1 to 2^19. */
TLEDGE_API int tledge_topk(const void* logits, int bytes, int64_t images, int classes, int k,
                           float temperature, int32_t* indices, float* probabilities);

#if defined(__cplusplus)
}
#endif

#endif
