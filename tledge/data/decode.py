"""Bytes of an image file to pixels: uint8, height x width x 3, red first, by one written rule.

The rule (docs/data.md gives it with its reasons):

- the first frame of a file with several;
- EXIF orientation applied, all eight values, unless the caller says no (TIFF's own orientation tag belongs to
  the format, and is always applied);
- grey: the value three times; 1 bit: 0 and 255;
- 16 bits: the high byte (value >> 8), which gives back 8-bit images that were widened by << 8 or by x 257;
- palette: its colours;
- alpha, of whatever kind: composited over white, (value x alpha + 255 x (255 - alpha) + 127) // 255. The
  colour under a transparent pixel is whatever the editor left there; white is what viewers and paper show;
- CMYK: (255 - ink) x (255 - black) / 255 a channel, after CMYK JPEGs, which Adobe stores inverted, are
  inverted;
- YCbCr and HSV: as Pillow converts them. Colour profiles are not applied;
- refused: floating-point and Lab images, whose range nothing in the file tells, integers beyond 16 bits, more
  than 100 megapixels, JPEGs of more than 500 scans, and anything that ends before its last row.
"""

from __future__ import annotations

import importlib
import io
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from tledge.data.ahead import ordered
from tledge.data.exif import orientation, upright
from tledge.data.scans import MOST_SCANS, too_many_scans
from tledge.errors import InputError, MachineError

if TYPE_CHECKING:
    from PIL.Image import Image

    from tledge.preprocess import Preprocessor, Spec

Pixels = npt.NDArray[np.uint8]

MAX_PIXELS = 100_000_000

# What is read: the first bytes, then Pillow's module and class. Asking the class itself, rather than
# Image.open, keeps out formats that run other programs (EPS), and keeps Pillow's own guard against bombs from
# printing a warning at a size that we allow.
_READERS = (
    (rb"\xff\xd8\xff", "JPEG", "JpegImagePlugin", "JpegImageFile"),
    (rb"\x89PNG\r\n\x1a\n", "PNG", "PngImagePlugin", "PngImageFile"),
    (rb"RIFF....WEBP", "WebP", "WebPImagePlugin", "WebPImageFile"),
    (rb"GIF8[79]a", "GIF", "GifImagePlugin", "GifImageFile"),
    (rb"BM", "BMP", "BmpImagePlugin", "BmpImageFile"),
    (rb"II[*+]\0|MM\0[*+]", "TIFF", "TiffImagePlugin", "TiffImageFile"),
    (rb"P[1-6]\s", "PNM", "PpmImagePlugin", "PpmImageFile"),
    (rb"....ftypavi[fs]", "AVIF", "AvifImagePlugin", "AvifImageFile"),
)
_CONVERT = "Convert it first, for instance to PNG or JPEG, so that you decide what its values mean."
_REPLACE = "Replace or remove the file; `tledge audit` lists every one like it."
_WARNING_LOCK = threading.Lock()


class Readable(Protocol):
    """Something with a name and the bytes of an image file: a `tledge.data.Sample`, for one."""

    @property
    def name(self) -> str:
        """The name that messages give."""

    def read(self) -> bytes:
        """Return the bytes of the image file."""


def image(data: bytes, *, spec: Spec | None = None, name: str = "") -> Pixels:
    """Return the pixels of an image file: uint8, height x width x 3, red first, packed, maybe read-only.

    Args:
        data: the bytes of a JPEG, PNG, WebP, GIF, BMP, TIFF, PNM or AVIF file.
        spec: says whether the EXIF orientation is applied, and whether a large JPEG may be decoded at a part
            of its size. Without it: yes, and no.
        name: the file's name, for messages.

    Raises:
        InputError: it is no image, is truncated or damaged, is too large, or has no 8-bit meaning. The
            message names the file.
        MachineError: this Pillow was built without the format.
    """
    opened = open_image(data, name)
    if spec is None:
        return pil(opened, name=name)
    if spec.decode.jpeg == "fast" and opened.format in ("JPEG", "MPO"):
        _shrink(opened, spec)
    return pil(opened, exif=spec.decode.exif, name=name)


def pil(image: Image, *, exif: bool = True, name: str = "") -> Pixels:
    """Return the pixels of an image that Pillow opened, by the same rule; see `image`."""
    name = name or str(getattr(image, "filename", "")) or "the image"
    _check_size(image, name)
    load(image, name)
    try:
        return upright(_rgb(image, name), turn(image) if exif else 1)
    except InputError:
        raise
    except Exception as error:
        raise _damaged(name, error, image.format or "") from error


def tensor(data: bytes, prepare: Preprocessor, *, name: str = "") -> npt.NDArray[Any]:
    """Return the input tensor (spec.shape, spec.dtype) of an image file's bytes. Raises as `image` does.

    A JPEG goes straight to the tensor, decoding only what the crop needs; all else, and whatever may be wrong
    with a JPEG, is decoded here. The bits are the same.
    """
    straight = prepare.jpeg(data)
    if straight is not None:
        return straight
    return prepare(image(data, spec=prepare.spec, name=name))


def stream(
    samples: Sequence[Readable], spec: Spec | None = None, *, workers: int = 2, ahead: int = 64
) -> Iterator[tuple[int, Pixels]]:
    """Yield (index, pixels) of each sample, in order, read and decoded ahead by threads.

    `spec` is as for `image`. At most `ahead` images wait in memory.

    Raises:
        InputError: an image cannot be read; at the place of that image, naming it.
    """

    def read(sample: Readable) -> Pixels:
        return image(sample.read(), spec=spec, name=sample.name)

    yield from enumerate(ordered(read, samples, workers=workers, ahead=ahead))


def open_image(data: bytes, name: str = "") -> Image:
    """Return Pillow's image of the file, of a size that we allow, not decoded yet. Raises as `image` does."""
    name = name or "the image"
    if not data:
        raise InputError(f"{name} is empty (0 bytes)", hint=_REPLACE, path=name)
    reader = next((one for one in _READERS if re.match(one[0], data[:16], re.DOTALL)), None)
    if reader is None:
        raise InputError(f"{name} is not an image: {_look(data)}", hint=_REPLACE, path=name)
    try:
        opened: Image = _reader(*reader[1:])(io.BytesIO(data), "")
    except MachineError:
        raise
    except Exception as error:  # Pillow raises nearly everything on damaged files
        raise _damaged(name, error, reader[1]) from error
    _check_size(opened, name)
    if reader[1] == "JPEG" and too_many_scans(data):
        raise InputError(
            f"{name} has more than {MOST_SCANS} scans, which may take any time to decode",
            hint="No camera or editor writes such a JPEG. Save it anew in a program that you trust.",
            path=name,
        )
    return opened


@cache
def _reader(kind: str, module: str, name: str) -> Any:
    """Return Pillow's class for a format."""
    try:
        from PIL import features

        found = getattr(importlib.import_module(f"PIL.{module}"), name)
    except ImportError as error:
        raise _lacking(kind) from error
    if kind in ("WebP", "AVIF") and not features.check(kind.lower()):
        raise _lacking(kind)
    return found


def _lacking(kind: str) -> MachineError:
    return MachineError(f"this Pillow cannot read {kind}", hint='pip install --upgrade "Pillow>=11.3"')


def _check_size(opened: Image, name: str) -> None:
    width, height = opened.size
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{name} is too large: {width} x {height} is more than {MAX_PIXELS // 10**6} megapixels",
            hint="Scale it down first, or cut it into tiles.",
            path=name,
        )
    if width < 1 or height < 1:
        raise InputError(f"{name} has no pixels: {width} x {height}", hint=_REPLACE, path=name)


def _shrink(opened: Image, spec: Spec) -> None:
    """Have a JPEG decoded at the part of its size that the spec allows, by libjpeg as in the kernels."""
    from tledge.preprocess.geometry import jpeg_scale

    width, height = opened.size
    turned = spec.decode.exif and turn(opened) > 4  # 5 to 8 change width and height
    scale = jpeg_scale(spec, *((height, width) if turned else (width, height)))
    if scale > 1:
        opened.draft(None, (width // scale, height // scale))


def load(opened: Image, name: str) -> None:
    """Decode what `open_image` opened. InputError: it is truncated or damaged."""
    from PIL import Image

    try:
        if opened.width * opened.height > (Image.MAX_IMAGE_PIXELS or MAX_PIXELS):
            # Between Pillow's limit and ours its TIFF reader warns. Filters are the process's: one at a time.
            with _WARNING_LOCK, warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                opened.load()
        else:
            opened.load()
    except Exception as error:
        raise _damaged(name, error, opened.format or "") from error


def turn(opened: Image) -> int:
    """Return the EXIF orientation of an opened image, 1 to 8 (PNG may tell it only once it is loaded)."""
    block = opened.info.get("exif", b"")
    return orientation(block) if isinstance(block, bytes) else 1


def _rgb(opened: Image, name: str) -> Pixels:
    """Return the loaded image's pixels as RGB, as stored, by the rule at the head of this file."""
    mode = opened.mode
    if mode == "I" or mode.startswith("I;16"):
        return _high_byte(np.asarray(opened), name)
    if mode in ("F", "LAB"):
        what = "floating-point values" if mode == "F" else "Lab colours"
        raise InputError(
            f"{name} holds {what}, and nothing says what black and white are", hint=_CONVERT, path=name
        )
    if mode == "La":
        opened = opened.convert("LA")
    if has_alpha(opened):
        rgba = np.asarray(opened.convert("RGBA")).astype(np.uint32)
        colour, alpha = rgba[..., :3], rgba[..., 3:]
        return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return np.asarray(opened if mode == "RGB" else opened.convert("RGB"))


def has_alpha(opened: Image) -> bool:
    """Tell whether any of the image's pixels may be transparent: by channel, palette or key colour."""
    if opened.mode in ("LA", "PA", "La", "RGBA", "RGBa"):
        return True
    if opened.mode == "P" and opened.palette is not None and opened.palette.mode == "RGBA":
        return True
    return "transparency" in opened.info


def _high_byte(values: npt.NDArray[Any], name: str) -> Pixels:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 0xFFFF:
        message = f"{name} holds values from {low} to {high}, beyond 16 bits"
        raise InputError(message, hint=_CONVERT, path=name)
    grey = (values >> 8).astype(np.uint8)
    return np.repeat(grey[..., np.newaxis], 3, axis=2)


def _look(data: bytes) -> str:
    """Say in a few words what bytes that are no image look like."""
    if re.match(rb"....ftyp(hei|hev|mif)", data[:16], re.DOTALL):
        return "HEIC, which is not read (convert it to JPEG)"
    head = data[:64]
    if not any(head):
        return "it begins with zeros"
    if all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in head):
        return f"it is text that begins with {head[:24].decode('ascii')!r}"
    return f"it begins with the bytes {head[:8].hex(' ')}"


def _damaged(name: str, error: Exception, kind: str) -> InputError:
    reason = str(error) or type(error).__name__
    if isinstance(error, SyntaxError):
        reason = "its header is damaged"
    return InputError(f"{name} is a damaged {kind} image: {reason}", hint=_REPLACE, path=name)
