"""Raw frames one after another in a pipe: from standard input, or from a program that reads a camera."""

from __future__ import annotations

import io
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from tledge.errors import InputError
from tledge.preprocess.checking import choice, whole
from tledge.preprocess.frames import FORMATS, HALF_HEIGHT, Format, Frame, plane_shapes
from tledge.preprocess.images import Pixels
from tledge.runtime.sources.colour import UNSTATED, Colour, settled
from tledge.runtime.sources.shot import Shot


@dataclass(frozen=True)
class Layout:
    """How the planes of a frame follow one another: rows begin at multiples of `align` bytes.

    With `align` above 1 an odd height is padded to an even one, as GStreamer does.
    """

    format: Format
    width: int
    height: int
    align: int = 1

    def __post_init__(self) -> None:
        choice(self.format, FORMATS, "--format")
        whole(self.width, "the width", 1, 1 << 20)
        whole(self.height, "the height", 1, 1 << 20)

    @property
    def planes(self) -> tuple[tuple[int, int, int], ...]:
        """Return rows, bytes from row to row and bytes in all of each plane."""
        result = []
        for number, (rows, columns) in enumerate(plane_shapes(self.format, self.width, self.height)):
            stride = -(-columns // self.align) * self.align
            padded = rows + rows % 2 if self.align > 1 and self.format in HALF_HEIGHT and not number else rows
            result.append((rows, stride, padded * stride))
        return tuple(result)

    @property
    def size(self) -> int:
        """Return the bytes of a frame."""
        return sum(size for _, _, size in self.planes)

    def frame(self, data: Pixels, colour: Colour) -> Frame:
        """Return the frame in `data`, `size` bytes, which it keeps."""
        planes, at = [], 0
        for rows, stride, size in self.planes:
            planes.append(data[at : at + rows * stride].reshape(rows, stride))
            at += size
        return Frame(
            self.format, self.width, self.height, tuple(planes), colour.matrix, colour.range, colour.siting
        )


@dataclass(frozen=True)
class RawFrames:
    """The frames of one layout in a pipe or file.

    Attributes:
        name: what messages and answers call it.
        pipe: unbuffered and binary; it is closed at the end.
        layout: of each frame.
        colour: what the caller states.
        live: whether frames are dropped that come too fast; else the pipe's writer waits.
    """

    name: str
    pipe: io.FileIO
    layout: Layout
    colour: Colour = UNSTATED
    live: bool = False

    def stop(self) -> None:
        """Do nothing: the reading thread is left behind if the pipe's writer is silent."""

    def shots(self) -> Generator[Shot, None, None]:
        """Yield the frames. See `Source`."""
        colour = settled(self.name, self.layout.format, self.colour, UNSTATED, UNSTATED)
        with self.pipe as pipe:
            number = 0
            while (data := filled(pipe, self.layout.size, self.name)) is not None:
                yield Shot(self.name, number, self.layout.frame(data, colour))
                number += 1


def filled(pipe: io.FileIO, size: int, name: str) -> Pixels | None:
    """Return the next `size` bytes of a pipe; None at its end.

    Raises:
        InputError: it ends before.
    """
    data = np.empty(size, np.uint8)
    view, got = data.data, 0
    while got < size:
        count = pipe.readinto(view[got:])
        if not count:
            break
        got += count
    if got == size:
        return data
    if got:
        raise InputError(
            f"{name} ends within a frame: {got} of its {size} bytes came",
            hint="Are --format and --size those of the frames? Or its sender was stopped.",
            path=name,
        )
    return None
