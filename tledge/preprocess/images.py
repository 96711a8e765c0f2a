"""What goes into and comes out of a preprocessor: arrays are checked here, before any pointer is taken."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tledge.errors import InputError

Pixels = npt.NDArray[np.uint8]
Tensor = npt.NDArray[np.generic]


def check_image(image: object) -> Pixels:
    """Return `image` if it is uint8, height x width x 3, with packed pixels and a positive row stride."""
    if not isinstance(image, np.ndarray):
        raise InputError(
            f"an image is {type(image).__name__}, not a NumPy array",
            hint="decode it first: numpy.asarray(PIL.Image.open(...).convert('RGB'))",
        )
    if image.dtype != np.uint8:
        raise InputError(f"an image has dtype {image.dtype}, not uint8", hint="give the decoded 8-bit pixels")
    if image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"an image has shape {image.shape}", hint="it must be height x width x 3, red first")
    height, width, _ = image.shape
    if height == 0 or width == 0:
        raise InputError(f"an image is empty: shape {image.shape}", hint="each side must be 1 pixel or more")
    row, pixel, channel = image.strides
    # The stride along a side of one pixel is never used, and NumPy may have put anything there.
    if channel != 1 or (pixel != 3 and width > 1) or (row < 3 * width and height > 1):
        raise InputError(
            f"an image has strides {image.strides}: mirrored, or its pixels are not packed",
            hint="make it contiguous: numpy.ascontiguousarray(image)",
        )
    return image


def check_pixels(pixels: object) -> Pixels:
    """Return `pixels` as a contiguous array if it is uint8, (N x) height x width x 3."""
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        kind = pixels.dtype if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise InputError(f"pixels are {kind}, not a uint8 array", hint="give 8-bit pixels")
    if pixels.ndim not in {3, 4} or pixels.shape[-1] != 3:
        raise InputError(f"pixels have shape {pixels.shape}", hint="N x height x width x 3, red first")
    return np.ascontiguousarray(pixels)


def check_out(out: Tensor | None, shape: tuple[int, ...], dtype: str) -> Tensor:
    """Return `out` if a tensor of `shape` and `dtype` can be written into it; a new array when it is None."""
    if out is None:
        return np.empty(shape, dtype)
    if out.shape != shape or out.dtype != np.dtype(dtype):
        raise InputError(
            f"out is {out.shape} of {out.dtype}", hint=f"it must be {shape} of {dtype}, or leave it out"
        )
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise InputError("out is not contiguous and writeable", hint="allocate it with numpy.empty")
    return out
