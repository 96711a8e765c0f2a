"""What one image file is: read once, decoded as far as is needed to know that it is whole."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tledge.data import decode
from tledge.data.dataset import Sample
from tledge.data.exif import upright
from tledge.data.likeness import SIDE, Thumbnail, thumbnail
from tledge.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

# Pixels a side that a thumbnail is averaged from at least: the same pairs are found as from whole images.
_DRAFT = 2 * SIDE


@dataclass(frozen=True)
class Facts:
    """What `inspect` found. Where `error` says why the image cannot be used, only `sha256` may be known too.

    `mode` is "RGB", "grey", "1-bit", "16-bit", "palette", "CMYK" or Pillow's name, with " with alpha" where
    pixels may be transparent; `size` is (width, height) as stored; `orientation` is EXIF's, 1 to 8.
    """

    error: str | None = None
    sha256: str = ""
    kind: str = ""
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    orientation: int = 1
    picture: Thumbnail | None = field(default=None, repr=False)


_MODES = {
    "1": "1-bit",
    "L": "grey",
    "LA": "grey",
    "La": "grey",
    "P": "palette",
    "PA": "palette",
    "I": "16-bit",
    "RGBA": "RGB",
    "RGBa": "RGB",
    "RGBX": "RGB",
}


def inspect(sample: Sample) -> Facts:
    """Return the facts of a sample; never raises for what is wrong with the image itself."""
    digest = ""
    try:
        data = sample.read()
        digest = hashlib.sha256(data).hexdigest()
        opened = decode.open_image(data, sample.name)
        # Asked before decoding: a JPEG that is decoded to its luma calls itself grey afterwards.
        kind, mode, size = opened.format or "", _mode(opened), opened.size
        grey = _grey(opened, sample.name)
        orientation = decode.turn(opened)
        picture = thumbnail(upright(grey[..., np.newaxis], orientation)[..., 0])
        return Facts(None, digest, kind, mode, size, orientation, picture)
    except InputError as error:
        return Facts(error.message, digest)


def _grey(opened: Image, name: str) -> decode.Pixels:
    """Return the image in grey, as stored, perhaps scaled down; InputError where `decode.image` gives one.

    A colour or grey JPEG is decoded to its luma at a fraction of its size: all of its data is still read, so
    that one which ends early is found, in a fifth of the time.
    """
    if opened.format == "JPEG" and opened.mode in ("RGB", "L"):
        opened.draft("L", (_DRAFT, _DRAFT))
        decode.load(opened, name)
        return np.asarray(opened)
    pixels = decode.pil(opened, exif=False, name=name)
    weighted = pixels @ np.array([299, 587, 114], np.uint32)  # luma of ITU-R BT.601, in thousandths
    return (weighted // 1000).astype(np.uint8)


def _mode(opened: Image) -> str:
    name = "16-bit" if opened.mode.startswith("I;16") else _MODES.get(opened.mode, opened.mode)
    return name + (" with alpha" if decode.has_alpha(opened) else "")
