"""The reference of resizing chroma planes: Pillow's arithmetic in Python and NumPy.

Pillow resizes a part of a picture that may begin anywhere, but not one that ends beyond the picture, as
chroma does that lies on the first of its columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from tledge.preprocess.images import Pixels

BITS = 22
Coefficients = npt.NDArray[np.int64]


def _box(x: float) -> float:
    return 1.0 if -0.5 < x <= 0.5 else 0.0


def _bilinear(x: float) -> float:
    return max(0.0, 1.0 - abs(x))


def _hamming(x: float) -> float:
    x = abs(x)
    if x == 0.0:
        return 1.0
    if x >= 1.0:
        return 0.0
    x *= math.pi
    # Pillow's constants are 32-bit floats.
    return math.sin(x) / x * (float(np.float32(0.54)) + float(np.float32(0.46)) * math.cos(x))


def _bicubic(x: float) -> float:
    x = abs(x)
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * -0.5 if x < 2.0 else 0.0


def _sinc(x: float) -> float:
    return 1.0 if x == 0.0 else math.sin(x * math.pi) / (x * math.pi)


def _lanczos(x: float) -> float:
    return _sinc(x) * _sinc(x / 3) if -3.0 <= x < 3.0 else 0.0


# Weight and support of each filter.
FILTERS: Mapping[str, tuple[Callable[[float], float], float]] = MappingProxyType(
    {
        "box": (_box, 0.5),
        "bilinear": (_bilinear, 1.0),
        "hamming": (_hamming, 1.0),
        "bicubic": (_bicubic, 2.0),
        "lanczos": (_lanczos, 3.0),
    }
)


def chroma_axis(source: int, resized: int, outputs: range, filter_name: str, between: bool) -> Coefficients:
    """Return what makes the outputs from chroma samples: outputs x samples, of 22 fractional bits.

    Args:
        source: luma samples, which share (source + 1) / 2 chroma samples.
        resized: what luma is resized to.
        outputs: which of the resized ones.
        filter_name: one of Pillow's.
        between: whether a chroma sample lies between its two luma samples, or else on the first.
    """
    samples = (source + 1) // 2
    result = np.zeros((len(outputs), samples), np.int64)
    if filter_name == "nearest":
        # Pillow adds the step output by output.
        step = source / resized
        position = step * 0.5
        for output in range(outputs.stop):
            if output in outputs:
                result[output - outputs.start, min(int(position), source - 1) // 2] = 1 << BITS
            position += step
        return result
    weight, support = FILTERS[filter_name]
    scale = source / resized / 2
    wide = max(scale, 1.0)
    support *= wide
    for row, output in zip(result, outputs, strict=True):
        centre = (output + 0.5) * scale
        if not between:
            centre = min(centre + 0.25, samples - 0.5)
        first = max(int(centre - support + 0.5), 0)
        end = min(int(centre + support + 0.5), samples)
        weights = [weight((x - centre + 0.5) * (1.0 / wide)) for x in range(first, end)]
        # A sum in this order, and not NumPy's.
        total = 0.0
        for value in weights:
            total += value
        for x, value in enumerate(weights, first):
            scaled = value / total * (1 << BITS)
            row[x] = int(scaled + (-0.5 if scaled < 0 else 0.5))
    return result


def resampled(plane: npt.NDArray[np.integer], coefficients: Coefficients) -> Pixels:
    """Return a plane whose rows are resampled, rounded to 8 bits."""
    sums = plane.astype(np.int64) @ coefficients.T + (1 << (BITS - 1))
    levels: Pixels = np.clip(sums >> BITS, 0, 255).astype(np.uint8)
    return levels
