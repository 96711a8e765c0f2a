"""The calibration cache of TensorRT 8 and 10, for what still calibrates by it: DeepStream, DLA, trtexec.

A line of header, then one `tensor: scale` a line, the scale (largest magnitude / 127) as the eight
hexadecimal digits of its big-endian float32. TensorRT 11 has no calibrators: it reads `int8` instead.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from tledge.errors import UsageError
from tledge.quantization import calibration_file, ranges
from tledge.quantization.build import BY_LAYER
from tledge.quantization.layers import observer
from tledge.quantization.qdq import symmetric
from tledge.quantization.ranges import Range

# The version (10.3.0, JetPack 6's) and the kind of the calibrator that would have written it.
HEADER = "TRT-100300-EntropyCalibration2"


def encode(document: Mapping[str, Any]) -> bytes:
    """Return the cache of a calibration: every tensor that was observed.

    Those that the `int8` variant quantises have its ranges. The others, which only an implicit quantiser asks
    for, get theirs from their histograms by the method that was chosen for it (by mean squared error where
    each layer chose its own). Tensors whose channels were equalised are left out: `fp32.onnx`,
    which the cache is for, has others there.

    Raises:
        UsageError: a tensor's name holds a line break, which the format cannot.
    """
    decided = document["variants"]["int8"]
    method = "mse" if decided["ranges_by"] == BY_LAYER else decided["ranges_by"]
    found = {
        name: ranges.find(observer(name, tensor), method, ranges.SYMMETRIC)
        for name, tensor in document["tensors"].items()
    } | calibration_file.ranges(document, "int8")
    for group in decided["groups"]:
        span = Range(min(found[name].low for name in group), max(found[name].high for name in group))
        found.update(dict.fromkeys(group, span))
    scaled = document.get("equalised", {})
    return render({name: symmetric(one).scale for name, one in found.items() if name not in scaled})


def render(scales: Mapping[str, float]) -> bytes:
    """Return the cache of these scales by tensor. Raises as `encode` does."""
    for name in scales:
        if "\n" in name or "\r" in name:
            raise UsageError(f"a calibration cache cannot hold the tensor {name!r}: its name breaks the line")
    lines = [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in sorted(scales.items())]
    return "\n".join([HEADER, *lines, ""]).encode()
