// Built without libjpeg-turbo: nothing is taken on.
#include "jpeg.h"

namespace tledge {

bool jpeg_available() { return false; }

bool decode_window(const Plan&, const uint8_t*, size_t, int, std::vector<uint8_t>&, Source*) { return false; }

}  // namespace tledge
