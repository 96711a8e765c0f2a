// Normalisation tables, and the straight lines that they are values of.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "resample.h"

namespace tledge {
namespace {

// A line in two parts: one of so few bits that its value at any level has no more than a float's 24, and what is left of it. The
// first is exact then, and the second as good as that, so that their sum is rounded once. Of a hundred tables about one has an
// entry so near the middle between two floats that the second part's own rounding turns it: that one is looked up.
Line split(double slope, double offset) {
    const double largest = std::max({std::fabs(offset), std::fabs(255 * slope), std::fabs(255 * slope + offset)});
    if (!(largest > 0.0 && largest < 1e30)) return {};
    const double step = std::ldexp(1.0, std::ilogb(largest) + 1 - 24);
    const double first = std::rint(slope / step) * step, second = std::rint(offset / step) * step;
    return {static_cast<float>(first), static_cast<float>(second), static_cast<float>(slope - first),
            static_cast<float>(offset - second)};
}

}  // namespace

Table::Table(const void* source, int element, const double* known_lines) : bytes(element) {
    entries.allocate(static_cast<size_t>(3) * 256 * element);
    std::memcpy(entries.as<uint8_t>(), source, static_cast<size_t>(3) * 256 * element);
    planes.allocate(3 * 4 * 256);
    for (int c = 0; c < 3; ++c) {
        for (int v = 0; v < 256; ++v) {
            for (int b = 0; b < bytes; ++b) {
                planes.as<uint8_t>()[(4 * c + b) * 256 + v] = entries.as<uint8_t>()[(static_cast<size_t>(c) * 256 + v) * bytes + b];
            }
        }
    }
    if (bytes == 4 && known_lines != nullptr) verify_lines(known_lines);
}

void Table::verify_lines(const double* known) {
    for (int c = 0; c < 3; ++c) {
        const Line line = split(known[2 * c], known[2 * c + 1]);
        const float* wanted = entries.as<float>() + 256 * c;
        lines[c] = line;
        exact[c] = 1;
        for (int v = 0; v < 256; ++v) {
            const float level = static_cast<float>(v);
            const float computed = std::fma(level, line.slope, line.offset) + std::fma(level, line.slope_rest, line.offset_rest);
            if (std::memcmp(&computed, wanted + v, sizeof computed) != 0) exact[c] = 0;
        }
    }
}

EmissionTable Table::view() const { return {bytes, entries.as<uint8_t>(), planes.as<uint8_t>(), lines, exact}; }

}  // namespace tledge
