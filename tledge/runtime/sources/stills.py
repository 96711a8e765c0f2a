"""Images one by one: files, folders, whatever a program yields, and the bytes of images in a pipe."""

from __future__ import annotations

import io
import os
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

from tledge.errors import InputError
from tledge.runtime.prediction import AnyImage
from tledge.runtime.sources.shot import Shot

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
# The beginnings of image files that no path has (those of BMP and PNM could be one).
BEGINNINGS = (PNG, JPEG, b"RIFF", b"GIF8", b"II*\0", b"MM\0*")
# Bytes of one image in a pipe beyond which it is taken for something else.
LARGEST = 1 << 28
_PIECE = 1 << 16


@dataclass(frozen=True)
class Images:
    """Images that a program has, or yields as they come; `live` if those that come too fast are dropped."""

    name: str
    images: Iterable[AnyImage]
    live: bool = False

    def stop(self) -> None:
        """Do nothing: the thread ends with the next image."""

    def shots(self) -> Generator[Shot, None, None]:
        """Yield the images. See `Source`."""
        for number, image in enumerate(self.images):
            named = isinstance(image, (str, os.PathLike))
            yield Shot(os.fspath(image) if named else self.name, number, image)  # type: ignore[arg-type]


def files(path: Path) -> Images:
    """Return the images in a folder, or the image at `path`, as a source.

    Raises:
        InputError: there are none in the folder.
    """
    from tledge.data import image_files

    if not path.is_dir():
        return Images(str(path), [path])
    found = image_files(path)
    if not found:
        raise InputError(
            f"no images in {path}", hint="Give a folder with image files in it, at any depth.", path=path
        )
    return Images(str(path), found)


@dataclass(frozen=True)
class PipedImages:
    """The bytes of image files one after another: JPEG and PNG; another kind is one image, to the end.

    Attributes:
        name: what messages and answers call it.
        pipe: unbuffered and binary.
        begun: what was read of it already.
    """

    name: str
    pipe: io.RawIOBase
    begun: bytes = b""
    live: bool = False

    def stop(self) -> None:
        """Do nothing: the reading thread is left behind if the pipe's writer is silent."""

    def shots(self) -> Generator[Shot, None, None]:
        """Yield the images. See `Source`."""
        buffer, number = _Buffer(self.pipe, self.begun, self.name), 0
        while buffer.has(1):
            start = bytes(buffer.data[:8]) if buffer.has(8) else b""
            if start.startswith(JPEG):
                size = _jpeg(buffer)
            elif start == PNG:
                size = _png(buffer)
            elif number and not any(start.startswith(known) for known in BEGINNINGS):
                raise InputError(
                    f"{self.name}: what follows image {number - 1} is no image",
                    hint="Send JPEG or PNG files one after another, with nothing between them.",
                    path=self.name,
                )
            else:
                size = buffer.rest()
            yield Shot(self.name, number, bytes(buffer.data[:size]))
            del buffer.data[:size]
            number += 1


class _Buffer:
    """What was read of a pipe and not handed out."""

    def __init__(self, pipe: io.RawIOBase, begun: bytes, name: str) -> None:
        self.data = bytearray(begun)
        self._pipe = pipe
        self._name = name

    def has(self, size: int) -> bool:
        """Read until there are `size` bytes; say whether there are."""
        if size > LARGEST:
            raise InputError(
                f"{self._name} has an image of more than {LARGEST >> 20} MiB",
                hint="It is damaged, or no image: send JPEG or PNG files.",
                path=self._name,
            )
        while len(self.data) < size:
            piece = self._pipe.read(_PIECE)
            if not piece:
                return False
            self.data += piece
        return True

    def rest(self) -> int:
        """Read to the end, and return the bytes there are."""
        while self.has(len(self.data) + 1):
            pass
        return len(self.data)

    def find(self, wanted: bytes, at: int) -> int:
        """Return where `wanted` begins, from `at` on; or the bytes there are, where the pipe ends before."""
        while (found := self.data.find(wanted, at)) < 0:
            at = max(at, len(self.data) - len(wanted) + 1)
            if not self.has(len(self.data) + 1):
                return len(self.data)
        return found


def _png(buffer: _Buffer) -> int:
    """Return the size of the PNG that begins the buffer: chunks up to IEND. What is cut off is all of it."""
    at = len(PNG)
    while buffer.has(at + 8):
        length = int.from_bytes(buffer.data[at : at + 4], "big")
        last = bytes(buffer.data[at + 4 : at + 8]) == b"IEND"
        at += 12 + length
        if not buffer.has(at):
            break
        if last:
            return at
    return len(buffer.data)


def _jpeg(buffer: _Buffer) -> int:
    """Return the size of the JPEG that begins the buffer (ITU-T T.81, B.1): its segments up to EOI.

    A segment is walked over by its length, so that a thumbnail's EOI in one is not taken for the image's.
    What is cut off, or has no marker where one should be, is all there is.
    """
    at = 2
    while buffer.has(at + 4):
        if buffer.data[at] != 0xFF:
            return buffer.rest()
        marker = buffer.data[at + 1]
        if marker == 0xD9:
            return at + 2
        if marker in (0xFF, 0x01, *range(0xD0, 0xD8)):  # filling, or without a length
            at += 1 if marker == 0xFF else 2
            continue
        at += 2 + int.from_bytes(buffer.data[at + 2 : at + 4], "big")
        if marker == 0xDA:
            at = _scan_end(buffer, at)
    if buffer.has(at + 2) and buffer.data[at : at + 2] == b"\xff\xd9":
        return at + 2
    return len(buffer.data)


def _scan_end(buffer: _Buffer, at: int) -> int:
    """Return where the next marker is after the coded data of a scan; stuffing and restarts are no end."""
    while True:
        at = buffer.find(b"\xff", at)
        if not buffer.has(at + 2):
            return len(buffer.data)
        if buffer.data[at + 1] != 0 and not 0xD0 <= buffer.data[at + 1] <= 0xD7:
            return at
        at += 2
