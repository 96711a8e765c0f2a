"""A frame that libav decoded, as the kernels take it: its own memory, not converted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tledge.errors import InputError
from tledge.preprocess import Box, Spec
from tledge.preprocess.frames import Frame, plane_shapes
from tledge.preprocess.host import HostPreprocessor
from tledge.preprocess.images import Pixels
from tledge.runtime.sources.colour import Colour, settled

if TYPE_CHECKING:
    from av import VideoFrame

# libav's names of what the kernels take. "yuvj" is libav's old way of saying full range.
FORMATS = {
    "yuv420p": "i420",
    "yuvj420p": "i420",
    "nv12": "nv12",
    "nv21": "nv21",
    "yuyv422": "yuyv",
    "uyvy422": "uyvy",
    "bgr0": "bgrx",
    "bgra": "bgrx",
    "rgb0": "rgba",
    "rgba": "rgba",
    "gray": "grey",
}
# AVColorSpace and AVColorRange (libavutil/pixfmt.h), whose numbers are those of ITU-T H.273.
UNSPECIFIED = 2
MATRICES = {1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020"}
RANGES = {1: "limited", 2: "full"}


def said(frame: VideoFrame) -> Colour:
    """Return what the stream says of a frame's colour. PyAV does not show the siting."""
    range = "full" if frame.format.name.startswith("yuvj") else RANGES.get(frame.color_range)
    return Colour(MATRICES.get(frame.colorspace), range)  # type: ignore[arg-type]  # values of the tables


def kernel_format(frame: VideoFrame, name: str) -> str:
    """Return what the kernels call the frame's format: one of `frames.FORMATS`, or "rgb".

    Raises:
        InputError: the kernels do not take it.
    """
    pixels = frame.format.name
    if pixels == "rgb24":
        return "rgb"
    if pixels not in FORMATS:
        raise InputError(
            f"{name} has frames of {pixels}, a pixel format that the kernels do not take",
            hint="They take 8-bit 4:2:0, packed 4:2:2, RGB and grey. Convert it: "
            "ffmpeg -i IN -pix_fmt yuv420p OUT; ask a camera for another: --format nv12.",
            path=name,
        )
    return FORMATS[pixels]


def frame_of(
    frame: VideoFrame, name: str, stated: Colour, stream: Colour, standard: Colour
) -> Frame | Pixels:
    """Return the frame over libav's own memory, which it keeps; a turned one upright, as its RGB pixels.

    Its colour is what the caller stated, else what the stream says, else its standard.

    Raises:
        InputError: the kernels do not take its format, or its colour is said nowhere.
    """
    format = kernel_format(frame, name)
    if format == "rgb":
        plane = _rows(frame, 0, frame.height, name)
        taken: Frame | Pixels = plane[:, : 3 * frame.width].reshape(frame.height, frame.width, 3)
    else:
        if stated.matrix is None and stream.matrix is None and frame.colorspace != UNSPECIFIED:
            raise InputError(
                f"{name} has a matrix that the kernels do not know (number {frame.colorspace} of H.273)",
                hint="Convert it to bt709 first, or state --matrix if the stream is wrong.",
                path=name,
            )
        colour = settled(name, format, stated, stream, standard)
        shapes = plane_shapes(format, frame.width, frame.height)
        planes = tuple(_rows(frame, number, rows, name) for number, (rows, _) in enumerate(shapes))
        taken = Frame(
            format,  # type: ignore[arg-type]  # values of FORMATS
            frame.width,
            frame.height,
            planes,
            colour.matrix,
            colour.range,
            colour.siting,
        )
    return upright(taken, frame.rotation, name) if frame.rotation else taken


def upright(image: Frame | Pixels, degrees: int, name: str) -> Pixels:
    """Return the RGB pixels of a frame turned counter-clockwise by `degrees`, as a telephone's video says.

    The kernels take no mirrored rows, so that a turned frame is converted whole, to the same bits.
    """
    if degrees % 90:
        raise InputError(
            f"{name} is to be shown turned by {degrees} degrees", hint="Turn it upright first.", path=name
        )
    if isinstance(image, Frame):
        size = (image.height, image.width)
        image = HostPreprocessor(Spec(geometry=Box(size=size), filter="nearest")).pixels(image)
    return np.ascontiguousarray(np.rot90(image, degrees // 90))


def _rows(frame: VideoFrame, number: int, rows: int, name: str) -> Pixels:
    plane = frame.planes[number]
    if plane.line_size <= 0:
        raise InputError(
            f"{name} has its rows from the bottom up, which the kernels do not take",
            hint="Encode it in another format first: ffmpeg -i IN OUT.mp4.",
            path=name,
        )
    memory = memoryview(plane)  # keeps the frame
    return np.frombuffer(memory, np.uint8, rows * plane.line_size).reshape(rows, plane.line_size)
