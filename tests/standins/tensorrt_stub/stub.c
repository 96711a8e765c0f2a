/* The nine C functions that TensorRT's Python bindings (10.3 to 11.4) import from libnvinfer, libnvinfer_plugin and
 * libnvonnxparser. With them the bindings load where TensorRT is not installed, and show all their classes, methods
 * and enumerations. Each returns a null pointer, so that making a builder, runtime or parser fails in Python with a
 * TypeError, as it should: there is nothing behind it. */

#include <stddef.h>

#define NOTHING(name) \
    void *name(void) { return NULL; }

NOTHING(createInferBuilder_INTERNAL)
NOTHING(createInferRefitter_INTERNAL)
NOTHING(createInferRuntime_INTERNAL)
NOTHING(createNvOnnxParser_INTERNAL)
NOTHING(createNvOnnxParserRefitter_INTERNAL)
NOTHING(getBuilderPluginRegistry)
NOTHING(getPluginRegistry)
NOTHING(initLibNvInferPlugins)

int getNvOnnxParserVersion(void) { return 0; }
