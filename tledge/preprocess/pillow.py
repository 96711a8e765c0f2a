"""The reference: Pillow's own resampling, one pass a call.

Pillow up to 12 resizes horizontally, rounds to 8 bits, then vertically; Pillow 13 turns the order round for
tall images, and 15 % of their bytes then differ by one. A call that resizes one axis has no order to choose,
so two calls give the bits of the specification on every version.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from PIL import Image

from tledge.preprocess.frames import Frame, components, converted, resizes_planes, to_rgb
from tledge.preprocess.geometry import Window, window
from tledge.preprocess.images import Pixels, Tensor, check_image, check_out, check_pixels
from tledge.preprocess.planes import chroma_axis, resampled
from tledge.preprocess.spec import Letterbox, Spec
from tledge.preprocess.tables import CHANNELS, normalisation

# Pixels that a resized strip may have: a very narrow image becomes millions of rows before it is cropped.
STRIP_PIXELS = 1 << 26


class PillowPreprocessor:
    """Images to tensors by the reference; see `tledge.preprocess.preprocessor`."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._table = normalisation(spec)

    def __call__(self, image: Pixels | Frame, out: Tensor | None = None) -> Tensor:
        """Return the tensor of one uint8 height x width x 3 image, or of a camera's frame."""
        result = check_out(out, self.spec.shape, self.spec.dtype)
        self._normalise_into(self.pixels(image), result)
        return result

    def jpeg(self, data: bytes, out: Tensor | None = None, stamps: list[int] | None = None) -> Tensor | None:
        """Return None: the reference takes decoded images only."""
        return None

    def batch(self, images: Iterable[Pixels | Frame], out: Tensor | None = None) -> Tensor:
        """Return the tensors of several images, of any sizes: N x ..."""
        listed = list(images)
        result = check_out(out, (len(listed), *self.spec.shape), self.spec.dtype)
        for image, tensor in zip(listed, result, strict=True):
            self(image, tensor)
        return result

    def pixels(self, image: Pixels | Frame) -> Pixels:
        """Return the resampled image before normalisation: uint8 height x width x 3, red first."""
        if isinstance(image, Frame) and resizes_planes(self.spec, image):
            place = window(self.spec.geometry, image.width, image.height)
            resized = resample_planes(image, place, self.spec.filter)
        else:
            checked = to_rgb(image) if isinstance(image, Frame) else check_image(image)
            place = window(self.spec.geometry, checked.shape[1], checked.shape[0])
            resized = resample(checked, place, self.spec.filter)
        if not isinstance(self.spec.geometry, Letterbox):
            return resized
        canvas = np.empty((*self.spec.size, 3), np.uint8)
        canvas[:] = self.spec.geometry.fill
        canvas[place.pad_top :, place.pad_left :][: place.height, : place.width] = resized
        return canvas

    def normalise(self, pixels: Pixels) -> Tensor:
        """Return the tensor of uint8 (N x) height x width x 3 pixels of any size."""
        checked = check_pixels(pixels)
        *batch, height, width, _ = checked.shape
        planes = (3, height, width) if self.spec.layout == "NCHW" else (height, width, 3)
        result: Tensor = np.empty((*batch, *planes), self.spec.dtype)
        self._normalise_into(checked, result)
        return result

    def _normalise_into(self, pixels: Pixels, out: Tensor) -> None:
        axis = -3 if self.spec.layout == "NCHW" else -1
        for channel, source in enumerate(CHANNELS[self.spec.decode.colour]):
            np.moveaxis(out, axis, 0)[channel] = self._table[channel][pixels[..., source]]


def resample(image: Pixels, place: Window, filter_name: str) -> Pixels:
    """Return the window of the resized image: uint8, place.height x place.width x 3."""
    method = Image.Resampling[filter_name.upper()]
    source = Image.fromarray(image)
    wide = source.resize((place.resized_width, source.height), method)
    columns = wide.crop((place.left, 0, place.left + place.width, source.height))
    result = np.empty((place.height, place.width, 3), np.uint8)
    step = max(1, STRIP_PIXELS // place.resized_height)
    for left in range(0, place.width, step):
        strip = columns.crop((left, 0, min(left + step, place.width), source.height))
        tall = strip.resize((strip.width, place.resized_height), method)
        cut = tall.crop((0, place.top, strip.width, place.top + place.height))
        result[:, left : left + step] = np.asarray(cut)
    return result


def resample_planes(frame: Frame, place: Window, filter_name: str) -> Pixels:
    """Return the same of a Y'CbCr frame, whose planes are resized and then converted."""
    luma, *chroma = components(frame)
    y = resample(np.repeat(luma[:, :, None], 3, axis=2), place, filter_name)[:, :, 0]
    halved, between_columns, between_rows = frame.chroma
    across = range(place.left, place.left + place.width)
    columns = chroma_axis(frame.width, place.resized_width, across, filter_name, bool(between_columns))
    u, v = (resampled(plane, columns) for plane in chroma)
    if halved == 2:
        down = range(place.top, place.top + place.height)
        rows = chroma_axis(frame.height, place.resized_height, down, filter_name, bool(between_rows))
        u, v = (resampled(plane.T, rows).T for plane in (u, v))
    else:
        # In its rows it lies as luma does.
        columns_done = replace(place, resized_width=place.width, left=0)
        u, v = np.moveaxis(resample(np.stack([u, v, v], axis=2), columns_done, filter_name), 2, 0)[:2]
    return converted(frame, y, u.astype(np.int64) - 128, v.astype(np.int64) - 128)
