"""Sizes and anchors: what part of an image is resized to what, and where it lies in the result.

The rounding rules are torchvision's, since the networks were trained with them:

- shorter side `resize`, longer side int(resize * long / short): truncated, after one division of floats;
- a centre crop begins at round((resized - crop) / 2), Python's round: half to even;
- a letterbox keeps the side that fits exactly, truncates the other in the same way (at least 1 pixel), and
  puts floor(border / 2) pixels left and above.

Where `decode.jpeg` is "fast", a JPEG is decoded at a part of its size first; that choice is here, too.
"""

from __future__ import annotations

from dataclasses import dataclass

from tledge.errors import InputError
from tledge.preprocess.spec import Box, Crop, Geometry, Spec

# Larger images are not resampled: sizes go through Pillow's 32-bit floats, which hold integers to 2**24, and
# the longer side after resizing through a 32-bit integer.
LARGEST_SOURCE = 1 << 20
LARGEST_RESIZED = (1 << 31) - 1
# A JPEG decoded "fast" keeps at least this many pixels for each one that it is resized to, as in Pillow's
# thumbnail. With fewer, little of the filter is left, and images come out sharper than those trained on.
FAST_GAP = 2
# What libjpeg's smaller inverse transforms divide by.
SCALES = (8, 4, 2)


@dataclass(frozen=True)
class Window:
    """How one image size is resampled; all in pixels.

    The image is resized to `resized_width` x `resized_height`; of that, `width` x `height` pixels that begin
    at (`left`, `top`) are used, and lie in the output at (`pad_left`, `pad_top`).
    """

    resized_width: int
    resized_height: int
    left: int
    top: int
    width: int
    height: int
    pad_left: int = 0
    pad_top: int = 0


def window(geometry: Geometry, width: int, height: int) -> Window:
    """Return how an image of `width` x `height` pixels is resampled under `geometry`.

    Raises:
        InputError: the image is empty, or too large to be resampled in the arithmetic promised.
    """
    if not (1 <= width <= LARGEST_SOURCE and 1 <= height <= LARGEST_SOURCE):
        raise InputError(
            f"an image of {width} x {height} pixels cannot be resized",
            hint=f"each side must be from 1 to {LARGEST_SOURCE} pixels",
        )
    if isinstance(geometry, Box):
        rows, columns = geometry.size
        return Window(columns, rows, 0, 0, columns, rows)
    if isinstance(geometry, Crop):
        return _crop(geometry, width, height)
    rows, columns = geometry.size
    if width * rows >= height * columns:
        fitted = columns, max(1, int(columns * height / width))
    else:
        fitted = max(1, int(rows * width / height)), rows
    if geometry.anchor == "top-left":
        return Window(*fitted, 0, 0, *fitted)
    return Window(*fitted, 0, 0, *fitted, (columns - fitted[0]) // 2, (rows - fitted[1]) // 2)


def jpeg_scale(spec: Spec, width: int, height: int) -> int:
    """Return what the sides of a JPEG are divided by when it is decoded: 1, or 2, 4 or 8 where it may be.

    `width` and `height` are those of the upright image. Of the decoded one they are ceil(side / scale), and
    its pixels are then taken as any image's.

    Raises:
        InputError: as `window`.
    """
    if spec.decode.jpeg == "exact":
        return 1
    place = window(spec.geometry, width, height)
    spare = min(width // (FAST_GAP * place.resized_width), height // (FAST_GAP * place.resized_height))
    return next((scale for scale in SCALES if scale <= spare), 1)


def _crop(geometry: Crop, width: int, height: int) -> Window:
    if isinstance(geometry.resize, tuple):
        resized_height, resized_width = geometry.resize
    elif width <= height:
        resized_width, resized_height = geometry.resize, int(geometry.resize * height / width)
    else:
        resized_width, resized_height = int(geometry.resize * width / height), geometry.resize
    if max(resized_width, resized_height) > LARGEST_RESIZED:
        raise InputError(
            f"an image of {width} x {height} pixels would be resized to {resized_width} x {resized_height}",
            hint="it is too long and narrow for this specification; cut it",
        )
    rows, columns = geometry.size
    left, top = round((resized_width - columns) / 2), round((resized_height - rows) / 2)
    return Window(resized_width, resized_height, left, top, columns, rows)
