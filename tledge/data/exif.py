"""The one thing that we need of EXIF: how the camera was held.

Read here rather than by Pillow, whose reader warns on damaged blocks, takes the orientation from XMP too, and
changed between versions: a rule that decides which pixels a network sees must not.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

ORIENTATION = 0x0112
SHORT = 3


def orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8, that a block of EXIF gives (its leading "Exif" may be missing).

    Only the first directory is looked at, as the standard says (EXIF 2.32, 4.6.2). A damaged block gives 1:
    the pixels are as they are stored.
    """
    tiff = exif[6:] if exif.startswith(b"Exif\0\0") else exif
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, number, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if tag == ORIENTATION and kind == SHORT and number == 1:
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


def upright(pixels: npt.NDArray[Any], value: int) -> npt.NDArray[Any]:
    """Return pixels, height x width x channels, turned and mirrored so that orientation `value` is undone.

    The result is contiguous: a new array unless `value` is 1.
    """
    if value == 1:
        return pixels
    turned = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a[::-1].swapaxes(0, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: a[:, ::-1].swapaxes(0, 1),
    }[value](pixels)
    return np.ascontiguousarray(turned)
