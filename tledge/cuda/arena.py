"""The arena: images of any sizes and formats in one piece of memory, as kernels/tensors.cu reads them.

It holds its used bytes, a task an image, then for each image its coefficients and the rows and columns that
its window reads, each at a multiple of 16 bytes. All positions count from its beginning, so that it may be
copied anywhere. Nothing here talks to a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tledge.preprocess import Letterbox, Spec
from tledge.preprocess.frames import SITINGS, Frame
from tledge.preprocess.geometry import window
from tledge.preprocess.host import HostPreprocessor
from tledge.preprocess.images import Pixels, check_image

# The structures of kernels/tensors.cu and source.h.
COMPONENT = np.dtype([("at", "i8"), ("stride", "i4"), ("step", "i4")], align=True)
SOURCE = np.dtype(
    [
        ("parts", COMPONENT, 3),
        ("chroma", "i4"),
        ("samples", "i4", 2),  # of chroma: columns, rows
        ("between", "i4", 2),  # likewise
        ("matrix", "i4", 6),
    ],
    align=True,
)
AXES = ("x", "y", "chroma_x", "chroma_y")
AXIS = np.dtype([("at", "i4"), ("outputs", "i4"), ("stride", "i4")], align=True)
TASK = np.dtype(
    [
        ("source", SOURCE),
        *((name, AXIS) for name in AXES),
        ("pad", "i4", 2),
        ("fill", "i4", 3),
    ],
    align=True,
)
HEADER = 16
PIECE = 16  # bytes of one load

# Which axes a format's chroma halves (source.h).
NO_CHROMA, HALF_COLUMNS, HALF_BOTH = 0, 1, 2
# Of each format: the three components (plane, first byte in it, bytes from sample to sample), and its chroma.
LAYOUTS: Mapping[str, tuple[tuple[tuple[int, int, int], ...], int]] = MappingProxyType(
    {
        "rgb": (((0, 0, 3), (0, 1, 3), (0, 2, 3)), NO_CHROMA),
        "bgrx": (((0, 2, 4), (0, 1, 4), (0, 0, 4)), NO_CHROMA),
        "rgba": (((0, 0, 4), (0, 1, 4), (0, 2, 4)), NO_CHROMA),
        "grey": (((0, 0, 1), (0, 0, 1), (0, 0, 1)), NO_CHROMA),
        "nv12": (((0, 0, 1), (1, 0, 2), (1, 1, 2)), HALF_BOTH),
        "nv21": (((0, 0, 1), (1, 1, 2), (1, 0, 2)), HALF_BOTH),
        "i420": (((0, 0, 1), (1, 0, 1), (2, 0, 1)), HALF_BOTH),
        "yuyv": (((0, 0, 2), (0, 1, 4), (0, 3, 4)), HALF_COLUMNS),
        "uyvy": (((0, 1, 2), (0, 0, 4), (0, 2, 4)), HALF_COLUMNS),
    }
)
KINDS_KEPT = 64


@dataclass(frozen=True)
class _Kind:
    """What images of one format and size have in common.

    Attributes:
        task: a record of TASK, positions counted from where the coefficients and each plane's part will lie.
        coefficients: of both axes, one after the other.
        cuts: of each plane: first row, end, first byte of a row, end.
        strides: bytes from row to row of each plane's part.
        size: bytes in the arena, without the task.
    """

    task: Any
    coefficients: NDArray[np.uint8]
    cuts: tuple[tuple[int, int, int, int], ...]
    strides: tuple[int, ...]
    size: int


class Arena:
    """Memory with room for `most` images, filled one batch after another; not for several threads at once."""

    def __init__(self, spec: Spec, memory: NDArray[np.uint8], most: int) -> None:
        """Lay it out in `memory`, at least `HEADER + most * TASK.itemsize` bytes."""
        self._spec = spec
        self._host = HostPreprocessor(spec)
        self._kinds: dict[tuple[object, ...], _Kind] = {}
        self._memory = memory
        self._begin = _whole(HEADER + most * TASK.itemsize)
        self._used = memory[:8].view(np.int64)
        self._tasks = memory[HEADER:][: most * TASK.itemsize].view(TASK)
        # Views of what depends on where an image lies; and a place in the batch that holds none.
        self._components = self._tasks["source"]["parts"]["at"]
        self._axes = tuple(self._tasks[name]["at"] for name in AXES)
        self._empty = np.zeros((), TASK)
        self._tasks[:] = self._empty
        self._used[0] = self._begin

    def needed(self, images: Sequence[Pixels | Frame]) -> int:
        """Return how many bytes these images need, each checked as the host checks it.

        Raises:
            InputError: one of them is no image, or too large to be resized.
        """
        return self._begin + sum(self._kind(image).size for image in images)

    def fill(self, images: Sequence[Pixels | Frame]) -> None:
        """Put the batch in, in place of the one before; it must fit."""
        cursor = self._begin
        for number, image in enumerate(images):
            kind = self._kind(image)
            self._memory[cursor:][: len(kind.coefficients)] = kind.coefficients
            self._tasks[number] = kind.task
            for axis in self._axes:
                axis[number] += cursor // 4
            cursor += _whole(len(kind.coefficients))
            format, planes = _planes(image)
            at = []
            for plane, cut, stride in zip(planes, kind.cuts, kind.strides, strict=True):
                self._copy(plane, cut, cursor, stride)
                at.append(cursor)
                cursor += stride * (cut[1] - cut[0])
            self._components[number] += [at[plane] for plane, _, _ in LAYOUTS[format][0]]
        self._tasks[len(images) :] = self._empty
        self._used[0] = cursor

    def _copy(self, plane: Pixels, cut: tuple[int, int, int, int], at: int, stride: int) -> None:
        top, bottom, begin, end = cut
        # An image's rows are not shown as bytes: of one pixel a row, they may lie anyhow.
        pixel = plane.shape[2] if plane.ndim == 3 else 1
        part = plane[top:bottom, begin // pixel : end // pixel]
        strides = (stride, pixel, 1) if plane.ndim == 3 else (stride, 1)
        np.copyto(np.ndarray(part.shape, np.uint8, self._memory, at, strides), part)

    def _kind(self, image: Pixels | Frame) -> _Kind:
        if isinstance(image, Frame):
            key: tuple[object, ...] = (image.format, image.width, image.height)
            key += (image.matrix, image.range, image.siting)
        else:
            key = ("rgb", check_image(image).shape)
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= KINDS_KEPT:
                self._kinds.pop(next(iter(self._kinds)))
            kind = self._kinds[key] = self._new_kind(image)
        return kind

    def _new_kind(self, image: Pixels | Frame) -> _Kind:
        frame = image if isinstance(image, Frame) else None
        format = frame.format if frame else "rgb"
        width, height = (frame.width, frame.height) if frame else (image.shape[1], image.shape[0])  # type: ignore[union-attr]
        axes = self._host.coefficients(image)
        place = window(self._spec.geometry, width, height)
        outputs = (place.width, place.height) * 2
        read = [_read(axis, count) for axis, count in zip(axes, outputs, strict=False)]
        if len(read) == 2:
            read += _under(LAYOUTS[format][1], width, height, *read)
        cuts = _cuts(format, *read)
        strides = tuple(_whole(end - begin) for _, _, begin, end in cuts)
        coefficients = np.concatenate(axes).view(np.uint8)

        task = np.zeros((), TASK)
        parts, chroma = LAYOUTS[format]
        for number, (plane, first, step) in enumerate(parts):
            top, _, begin, _ = cuts[plane]
            begins = first - top * strides[plane] - begin
            task["source"]["parts"][number] = (begins, strides[plane], step)
        task["source"]["chroma"] = chroma
        task["source"]["samples"] = (width + 1) // 2, (height + 1) // 2
        if frame and frame.siting:
            task["source"]["between"] = SITINGS[frame.siting]
            task["source"]["matrix"] = frame.coefficients
        at = 0
        for name, axis, count in zip(AXES, axes, outputs, strict=False):
            task[name] = at, count, len(axis) // count - 2
            at += len(axis)
        task["pad"] = place.pad_left, place.pad_top
        if isinstance(self._spec.geometry, Letterbox):
            task["fill"] = self._spec.geometry.fill
        pixels = sum(stride * (end - top) for stride, (top, end, _, _) in zip(strides, cuts, strict=True))
        return _Kind(task, coefficients, cuts, strides, _whole(len(coefficients)) + pixels)


def _whole(size: int) -> int:
    return -(-size // PIECE) * PIECE


def _read(axis: NDArray[np.int32], outputs: int) -> tuple[int, int]:
    """Return the first sample that an axis reads, and the end."""
    first, count = axis[:outputs], axis[outputs : 2 * outputs]
    return int(first.min()), int((first + count).max())


def _cuts(
    format: str,
    columns: tuple[int, int],
    rows: tuple[int, int],
    chroma_columns: tuple[int, int],
    chroma_rows: tuple[int, int],
) -> tuple[tuple[int, int, int, int], ...]:
    """Return of each plane the rows and bytes that hold these columns and rows of its components."""
    cuts: dict[int, tuple[int, int, int, int]] = {}
    for number, (plane, _, step) in enumerate(LAYOUTS[format][0]):
        begin, end = chroma_columns if number > 0 else columns
        top, bottom = chroma_rows if number > 0 else rows
        cut = top, bottom, begin * step, end * step
        known = cuts.get(plane, cut)
        cuts[plane] = top, bottom, min(known[2], cut[2]), max(known[3], cut[3])
    return tuple(cuts[plane] for plane in sorted(cuts))


def _under(
    chroma: int, width: int, height: int, columns: tuple[int, int], rows: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the columns and rows of chroma that the pixels of these columns and rows are converted with."""
    return (
        columns if chroma == NO_CHROMA else _halved(columns, width),
        _halved(rows, height) if chroma == HALF_BOTH else rows,
    )


def _halved(read: tuple[int, int], side: int) -> tuple[int, int]:
    """Return the chroma samples under some pixels of a side, with a neighbour at either end."""
    begin, end = read
    return max(0, begin // 2 - 1), min((side + 1) // 2, (end - 1) // 2 + 2)


def _planes(image: Pixels | Frame) -> tuple[str, tuple[Pixels, ...]]:
    return (image.format, image.planes) if isinstance(image, Frame) else ("rgb", (image,))
