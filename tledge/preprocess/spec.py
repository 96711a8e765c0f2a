"""The specification of preprocessing: how an image becomes the input tensor, in one frozen value.

It is written once, as `preprocess.json` in the bundle, and never restated anywhere else.
docs/preprocessing.md describes each field; `geometry.py` holds the rounding rules of sizes and anchors.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from tledge.errors import InputError
from tledge.preprocess.checking import choice, keys_of, number, size_of, triple, whole

SCHEMA = 1
# An input tensor is at most this many pixels a side: it keeps every product of sizes far inside 32 bits.
LARGEST_SIDE = 16384

Colour = Literal["rgb", "bgr"]
Filter = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
Layout = Literal["NCHW", "NHWC"]
DType = Literal["float32", "float16", "int8", "uint8"]
Anchor = Literal["centre", "top-left"]
Jpeg = Literal["exact", "fast"]
Order = Literal["convert-first", "planes-first"]

INTEGER_RANGES = {"int8": (-128, 127), "uint8": (0, 255)}


@dataclass(frozen=True)
class Decode:
    """How bytes become pixels.

    Attributes:
        colour: the order of the tensor's channels.
        exif: whether the orientation in the image's EXIF data is applied before anything else.
        jpeg: "exact", all pixels; or "fast", a JPEG that is far larger than it is resized to is decoded at a
            half, a quarter or an eighth of its size (`geometry.jpeg_scale`), which gives other bits.
    """

    colour: Colour = "rgb"
    exif: bool = True
    jpeg: Jpeg = "exact"

    def __post_init__(self) -> None:
        choice(self.colour, get_args(Colour), "decode.colour")
        choice(self.jpeg, get_args(Jpeg), "decode.jpeg")
        if not isinstance(self.exif, bool):
            raise InputError(f"decode.exif is {self.exif!r}", hint="it is true or false")


@dataclass(frozen=True)
class Frames:
    """How a camera's Y'CbCr frame becomes pixels of the tensor's size.

    Attributes:
        order: "convert-first", each pixel becomes red, green and blue, and is then resized as an image's; or
            "planes-first", Y', Cb and Cr are resized and then converted: faster, and other bits.
    """

    order: Order = "convert-first"

    def __post_init__(self) -> None:
        choice(self.order, get_args(Order), "frames.order")


@dataclass(frozen=True)
class Crop:
    """Resize, then cut the middle out: torchvision's Resize and CenterCrop.

    Attributes:
        resize: length in pixels of the shorter side after resizing (the aspect ratio is kept), or (height,
            width) to squash to. Never smaller than the crop, so that nothing is ever padded.
        size: height and width of the crop.
    """

    resize: int | tuple[int, int]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        size = size_of(self.size, "geometry.size", LARGEST_SIDE)
        object.__setattr__(self, "size", size)
        if isinstance(self.resize, int):
            whole(self.resize, "geometry.resize", 1, LARGEST_SIDE)
            smallest = (self.resize, self.resize)
        else:
            smallest = size_of(self.resize, "geometry.resize", LARGEST_SIDE)
            object.__setattr__(self, "resize", smallest)
        if size[0] > smallest[0] or size[1] > smallest[1]:
            raise InputError(
                f"geometry.size {size[0]} x {size[1]} does not fit in an image resized to {self.resize}",
                hint="make geometry.resize at least as large as the larger side of geometry.size",
            )

    @classmethod
    def from_crop_pct(cls, size: int | tuple[int, int], fraction: float) -> Crop:
        """Return the crop that timm writes as `crop_pct`: the shorter side becomes floor(size / fraction).

        Args:
            size: side of the (square) crop, or its height and width; the larger of them counts.
            fraction: in (0, 1].
        """
        both = (size, size) if isinstance(size, int) else size
        if not 0 < fraction <= 1:
            raise InputError(f"crop_pct is {fraction}", hint="it is a fraction above 0 and at most 1")
        return cls(resize=math.floor(max(both) / fraction), size=both)


@dataclass(frozen=True)
class Box:
    """Resize to `size` (height, width), whatever the aspect ratio."""

    size: tuple[int, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", size_of(self.size, "geometry.size", LARGEST_SIDE))


@dataclass(frozen=True)
class Letterbox:
    """Resize so that the whole image fits `size`, and fill the rest with a colour.

    Attributes:
        size: height and width of the result.
        fill: red, green and blue of the border, 0 to 255 (red first, whatever `decode.colour` is).
        anchor: where the image lies in the result.
    """

    size: tuple[int, int]
    fill: tuple[int, int, int] = (114, 114, 114)
    anchor: Anchor = "centre"

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", size_of(self.size, "geometry.size", LARGEST_SIDE))
        red, green, blue = (whole(v, "geometry.fill", 0, 255) for v in triple(self.fill, "geometry.fill"))
        object.__setattr__(self, "fill", (red, green, blue))
        choice(self.anchor, get_args(Anchor), "geometry.anchor")


Geometry = Crop | Box | Letterbox
_KINDS: dict[str, type[Crop] | type[Box] | type[Letterbox]] = {
    "crop": Crop,
    "box": Box,
    "letterbox": Letterbox,
}


@dataclass(frozen=True)
class Spec:
    """Everything between an image's bytes and the network's input.

    A channel value v (0 to 255) becomes (v / 255 - mean) / std, and for an integer `dtype`
    round_half_even(that / scale) + zero_point, saturated.

    Attributes:
        decode: bytes to pixels.
        frames: a camera's frame to pixels.
        geometry: which part of the image, and how large.
        filter: one of Pillow's filters, antialiased as Pillow does it.
        mean: one number a channel of the tensor, in units of full scale (1.0 is white).
        std: the same; never zero.
        layout: NCHW (planes) or NHWC (pixels).
        dtype: of the tensor.
        scale: step of an integer tensor, above 0; None for a float one.
        zero_point: of an integer tensor; None for a float one.
    """

    geometry: Geometry = field(default_factory=lambda: Crop(resize=256, size=(224, 224)))
    decode: Decode = field(default_factory=Decode)
    filter: Filter = "bilinear"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    layout: Layout = "NCHW"
    dtype: DType = "float32"
    scale: float | None = None
    zero_point: int | None = None
    frames: Frames = field(default_factory=Frames)

    def __post_init__(self) -> None:
        if not isinstance(self.geometry, Geometry):
            raise InputError(f"geometry is {self.geometry!r}", hint="it is a Crop, a Box or a Letterbox")
        if not isinstance(self.decode, Decode):
            raise InputError(f"decode is {self.decode!r}", hint="it is a Decode")
        if not isinstance(self.frames, Frames):
            raise InputError(f"frames is {self.frames!r}", hint="it is a Frames")
        choice(self.filter, get_args(Filter), "filter")
        choice(self.layout, get_args(Layout), "layout")
        choice(self.dtype, get_args(DType), "dtype")
        object.__setattr__(self, "mean", tuple(number(v, "mean") for v in triple(self.mean, "mean")))
        object.__setattr__(self, "std", tuple(number(v, "std") for v in triple(self.std, "std")))
        if any(value <= 0 for value in self.std):
            raise InputError(f"std is {list(self.std)}", hint="each of the three must be above 0")
        self._check_integers()

    def _check_integers(self) -> None:
        bounds = INTEGER_RANGES.get(self.dtype)
        if bounds is None:
            if self.scale is not None or self.zero_point is not None:
                raise InputError(
                    f"scale and zero_point are given, but dtype is {self.dtype}",
                    hint="they belong to int8 and uint8; leave them out",
                )
            return
        if self.scale is None or self.zero_point is None:
            raise InputError(f"dtype {self.dtype} without scale and zero_point", hint="give both")
        object.__setattr__(self, "scale", number(self.scale, "scale"))
        if self.scale <= 0:
            raise InputError(f"scale is {self.scale}", hint="it must be above 0")
        whole(self.zero_point, "zero_point", *bounds)

    def with_jpeg(self, how: Jpeg) -> Spec:
        """Return this specification with `decode.jpeg` set."""
        return replace(self, decode=replace(self.decode, jpeg=how))

    def with_frames(self, order: Order) -> Spec:
        """Return this specification with `frames.order` set."""
        return replace(self, frames=Frames(order))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the tensor."""
        return self.geometry.size

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one tensor: (3, height, width), or (height, width, 3) for NHWC."""
        height, width = self.size
        return (3, height, width) if self.layout == "NCHW" else (height, width, 3)

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the JSON text."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Return the text of preprocess.json: the same spec always gives the same bytes."""
        kind = next(name for name, cls in _KINDS.items() if type(self.geometry) is cls)
        decode = vars(self.decode)
        if self.decode.jpeg == "exact":
            # It was not written before there was a choice, and must not change the hash of what it does not.
            # So it is with the order of frames.
            decode = {name: value for name, value in decode.items() if name != "jpeg"}
        frames = {} if self.frames == Frames() else {"frames": vars(self.frames)}
        document = {
            "schema": SCHEMA,
            "decode": decode,
            **frames,
            "geometry": {"kind": kind, **vars(self.geometry)},
            "filter": self.filter,
            "mean": self.mean,
            "std": self.std,
            "layout": self.layout,
            "dtype": self.dtype,
            "scale": self.scale,
            "zero_point": self.zero_point,
        }
        return json.dumps(document, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, path: str | Path | None = None) -> Spec:
        """Read the text of a preprocess.json; `path` is only named in errors.

        Raises:
            InputError: not JSON, a missing or unknown key, or a value that makes no sense.
        """
        try:
            return cls._from_document(json.loads(text))
        except ValueError as error:
            raise InputError(f"the specification is not JSON: {error}", path=path) from error
        except InputError as error:
            raise InputError(f"specification: {error.message}", hint=error.hint, path=path) from error

    @classmethod
    def _from_document(cls, document: object) -> Spec:
        allowed = ("schema", *cls.__dataclass_fields__)
        body = keys_of(document, "the document", allowed, required=("schema", "geometry", "mean", "std"))
        schema = body.pop("schema")
        if schema != SCHEMA:
            raise InputError(f"schema {schema!r} is not {SCHEMA}, the one known here", hint="upgrade tledge")
        body["geometry"] = _geometry(body["geometry"])
        if "decode" in body:
            body["decode"] = Decode(**keys_of(body["decode"], "decode", tuple(Decode.__dataclass_fields__)))
        if "frames" in body:
            body["frames"] = Frames(**keys_of(body["frames"], "frames", tuple(Frames.__dataclass_fields__)))
        return cls(**body)


def _geometry(document: object) -> Geometry:
    """Read the geometry object; its `kind` says which keys it has."""
    named = document.get("kind") if isinstance(document, dict) else None
    kind = choice(named, tuple(_KINDS), "geometry.kind")
    fields = tuple(_KINDS[kind].__dataclass_fields__)
    required = ("resize", "size") if kind == "crop" else ("size",)
    body = keys_of(document, "geometry", ("kind", *fields), required=required)
    del body["kind"]
    return _KINDS[kind](**body)
