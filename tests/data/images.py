"""Image files for the tests, made in memory."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from PIL import Image

from tledge.errors import InputError

Result = TypeVar("Result")


def outcome(work: Callable[[], Result]) -> tuple[Result | None, InputError | None]:
    """Return what `work` gives, or how it refuses its input; any other error is a failure of the test."""
    try:
        return work(), None
    except InputError as error:
        return None, error


def photo(width: int = 60, height: int = 44, seed: int = 0) -> np.ndarray:
    """Return smooth colour with some noise, uint8 height x width x 3: compresses like a photo."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [
        np.sin(x / random.uniform(4, 15) + y / random.uniform(4, 15) + random.uniform(0, 6)) for _ in "rgb"
    ]
    pixels = 127 + 100 * np.stack(waves, axis=2) + random.normal(0, 8, (height, width, 3))
    return pixels.clip(0, 255).astype(np.uint8)


def encode(image: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    """Return the image as the bytes of a file."""
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int, order: str = "<") -> bytes:
    """Return an EXIF block that holds an orientation after another entry."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    other = struct.pack(order + "HHII", 0x0100, 4, 1, 640)
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0" + head + struct.pack(order + "H", 2) + other + entry + bytes(4)


def png_header(width: int, height: int) -> bytes:
    """Return the beginning of a PNG that says it has that size, and holds next to nothing."""
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100)))


def many_scans(planes: int, side: int = 16) -> bytes:
    """Return a sound progressive JPEG, grey, of 64 x `planes` scans: a bit of one coefficient in each.

    Args:
        planes: bits of a coefficient, 1 to 14.
        side: of the image, pixels.
    """
    blocks = (-(-side // 8)) ** 2

    def segment(marker: int, body: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", 2 + len(body)) + body

    def coded(bits: str) -> bytes:
        bits += "1" * (-len(bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")

    only_zero = bytes([1, *[0] * 15, 0])  # a Huffman table of one code, 0: no difference, or no coefficient
    parts = [
        b"\xff\xd8",
        segment(0xDB, bytes([0, *[1] * 64])),
        segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + bytes([1, 0x11, 0])),
        segment(0xC4, b"\x00" + only_zero + b"\x10" + only_zero),
    ]
    for bit in reversed(range(planes)):
        before = 0 if bit == planes - 1 else bit + 1
        for coefficient in range(64):
            parts.append(segment(0xDA, bytes([1, 1, 0, coefficient, coefficient, before << 4 | bit])))
            refines = coefficient == 0 and before
            parts.append(coded("".join(str(i % 2 if refines else 0) for i in range(blocks))))
    return b"".join(parts) + b"\xff\xd9"
