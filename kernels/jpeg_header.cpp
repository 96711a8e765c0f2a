// The headers of a JPEG (ITU-T T.81, annex B) and the orientation in its EXIF block (CIPA DC-008, 4.6).
#include <cstring>

#include "jpeg.h"

namespace tledge {
namespace {

constexpr int kSof0 = 0xC0, kSof2 = 0xC2, kSos = 0xDA, kApp1 = 0xE1, kEoi = 0xD9;
constexpr int kOrientation = 0x0112, kShort = 3;

int big16(const uint8_t* at) { return at[0] << 8 | at[1]; }

// Whether the EXIF block says "upright", or nothing; anything odd counts as no.
bool upright(const uint8_t* block, size_t bytes) {
    if (bytes < 14) return false;
    const uint8_t* tiff = block + 6;
    const size_t size = bytes - 6;
    const bool little = std::memcmp(tiff, "II*\0", 4) == 0;
    if (!little && std::memcmp(tiff, "MM\0*", 4) != 0) return false;
    const auto u16 = [&](size_t at) -> uint32_t { return little ? tiff[at] | tiff[at + 1] << 8 : tiff[at] << 8 | tiff[at + 1]; };
    const auto u32 = [&](size_t at) -> uint32_t { return little ? u16(at) | u16(at + 2) << 16 : u16(at) << 16 | u16(at + 2); };
    const size_t directory = u32(4);
    if (directory > size - 2) return false;
    const size_t entries = u16(directory);
    if (size - directory - 2 < 12 * entries) return false;
    for (size_t i = 0; i < entries; ++i) {
        const size_t entry = directory + 2 + 12 * i;
        if (u16(entry) != kOrientation) continue;
        if (u16(entry + 2) != kShort || u32(entry + 4) != 1 || u16(entry + 8) != 1) return false;
    }
    return true;
}

}  // namespace

bool jpeg_size(const uint8_t* data, size_t bytes, bool exif, int* width, int* height) {
    if (!jpeg_available() || bytes < 4 || big16(data) != 0xFFD8) return false;
    if (data[bytes - 2] != 0xFF || data[bytes - 1] != kEoi) return false;
    bool sized = false, turned_once = false;
    for (size_t at = 2; at + 4 <= bytes;) {
        if (data[at] != 0xFF) return false;
        const int marker = data[at + 1];
        if (marker == 0xFF) {  // padding
            ++at;
            continue;
        }
        const size_t length = big16(data + at + 2);
        const uint8_t* body = data + at + 4;
        if (marker < kSof0 || length < 2 || length > bytes - at - 2) return false;
        if (marker == kSos) return sized;
        if (marker >= kSof0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC) {
            if (sized || marker > kSof2 || length < 8 || body[0] != 8 || (body[5] != 1 && body[5] != 3)) return false;
            *height = big16(body + 1);
            *width = big16(body + 3);
            sized = *height > 0 && *width > 0;
            if (!sized) return false;
        }
        if (exif && marker == kApp1 && length >= 8 && std::memcmp(body, "Exif\0\0", 6) == 0) {
            if (turned_once || !upright(body, length - 2)) return false;
            turned_once = true;
        }
        at += 2 + length;
    }
    return false;
}

}  // namespace tledge
