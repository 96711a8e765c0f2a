"""Frames as cameras and decoders give them, and what their numbers mean: stated by the caller, never guessed.

A frame is converted to 8-bit red, green and blue first, and then preprocessed like any image; or, where the
specification says so, its planes are resized first (docs/preprocessing.md, "Camera formats"). The matrices
are those of ITU-R BT.601-7, BT.709-6 and BT.2020-2 (non-constant luminance), for 8-bit samples, with 16
fractional bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np

from tledge.errors import InputError
from tledge.preprocess.checking import choice, whole
from tledge.preprocess.images import Pixels
from tledge.preprocess.spec import Spec

# The order of `Format` in kernels/colour.h.
Format = Literal["nv12", "nv21", "i420", "yuyv", "uyvy", "bgrx", "rgba", "grey"]
Matrix = Literal["bt601", "bt709", "bt2020"]
Range = Literal["limited", "full"]
Siting = Literal["left", "centre", "top-left"]

FORMATS: tuple[Format, ...] = get_args(Format)
YUV = ("nv12", "nv21", "i420", "yuyv", "uyvy")
HALF_HEIGHT = ("nv12", "nv21", "i420")
# Share of red and of blue in luma.
LUMA_SHARES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
)
# Whether a chroma sample lies between its columns, and between its rows.
SITINGS: Mapping[str, tuple[bool, bool]] = MappingProxyType(
    {"left": (False, True), "centre": (True, True), "top-left": (False, False)}
)
PRECISION = 16


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a camera or a video.

    Attributes:
        format: how the planes hold the pixels; docs/preprocessing.md says byte by byte.
        width: pixels.
        height: pixels.
        planes: uint8, rows x bytes each; a plane's rows may lie any positive distance apart, and hold more
            bytes than the format needs. Odd sizes have (side + 1) / 2 chroma samples.
        matrix: of a Y'CbCr format; None for the others.
        range: of a Y'CbCr format: luma 16 to 235 (limited) or 0 to 255 (full); None for the others.
        siting: of a Y'CbCr format: where a chroma sample lies among its pixels; None for the others.
    """

    format: Format
    width: int
    height: int
    planes: tuple[Pixels, ...]
    matrix: Matrix | None = None
    range: Range | None = None
    siting: Siting | None = None

    def __post_init__(self) -> None:
        choice(self.format, FORMATS, "frame.format")
        whole(self.width, "frame.width", 1, 1 << 20)
        whole(self.height, "frame.height", 1, 1 << 20)
        meanings = (
            ("matrix", self.matrix, get_args(Matrix)),
            ("range", self.range, get_args(Range)),
            ("siting", self.siting, get_args(Siting)),
        )
        for name, value, known in meanings:
            if self.format in YUV:
                choice(value, known, f"frame.{name} of {self.format}")
            elif value is not None:
                raise InputError(f"frame.{name} is given, but {self.format} has none", hint="leave it out")
        shapes = plane_shapes(self.format, self.width, self.height)
        if len(self.planes) != len(shapes):
            raise InputError(
                f"a frame of {self.format} has {len(self.planes)} planes", hint=f"it needs {len(shapes)}"
            )
        for number, (plane, shape) in enumerate(zip(self.planes, shapes, strict=True)):
            _check_plane(
                plane, shape, f"plane {number} of a {self.width} x {self.height} {self.format} frame"
            )

    @classmethod
    def packed(
        cls,
        data: bytes | bytearray | memoryview,
        format: Format,
        width: int,
        height: int,
        *,
        matrix: Matrix | None = None,
        range: Range | None = None,
        siting: Siting | None = None,
    ) -> Frame:
        """Return the frame whose planes follow one another in `data`, without gaps between rows or planes.

        Raises:
            InputError: `data` has another length.
        """
        choice(format, FORMATS, "frame.format")
        shapes = plane_shapes(format, width, height)
        flat = np.frombuffer(data, np.uint8)
        needed = sum(rows * columns for rows, columns in shapes)
        if flat.size != needed:
            raise InputError(
                f"a packed {width} x {height} {format} frame has {flat.size} bytes", hint=f"it needs {needed}"
            )
        ends = np.cumsum([rows * columns for rows, columns in shapes])
        planes = tuple(
            part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)
        )
        return cls(format, width, height, planes, matrix, range, siting)

    @property
    def chroma(self) -> tuple[int, int, int]:
        """What chroma halves (0: nothing, 1: columns, 2: both); whether it lies between columns; rows."""
        between_columns, between_rows = SITINGS[self.siting or "centre"]
        halved = 0 if self.format not in YUV else 2 if self.format in HALF_HEIGHT else 1
        return halved, int(between_columns), int(between_rows)

    @property
    def coefficients(self) -> tuple[int, int, int, int, int, int]:
        """Black level, then luma, red of Cr, green of Cb, green of Cr, blue of Cb with 16 fractional bits."""
        if self.matrix is None:
            return (0, 0, 0, 0, 0, 0)
        red, blue = LUMA_SHARES[self.matrix]
        green = 1.0 - red - blue
        limited = self.range == "limited"
        luma, chroma = (255 / 219, 255 / 224) if limited else (1.0, 1.0)
        exact = (
            luma,
            chroma * 2 * (1 - red),
            -chroma * 2 * (1 - blue) * blue / green,
            -chroma * 2 * (1 - red) * red / green,
            chroma * 2 * (1 - blue),
        )
        y, rv, gu, gv, bu = (round(value * (1 << PRECISION)) for value in exact)
        return (16 if limited else 0, y, rv, gu, gv, bu)


def resizes_planes(spec: Spec, image: Pixels | Frame) -> bool:
    """Tell whether the planes of `image` are resized before they are converted."""
    return spec.frames.order == "planes-first" and isinstance(image, Frame) and image.format in YUV


def plane_shapes(format: str, width: int, height: int) -> tuple[tuple[int, int], ...]:
    """Return rows and bytes a row of each plane of a format."""
    columns, rows = (width + 1) // 2, (height + 1) // 2
    if format in ("nv12", "nv21"):
        return (height, width), (rows, 2 * columns)
    if format == "i420":
        return (height, width), (rows, columns), (rows, columns)
    if format in ("yuyv", "uyvy"):
        return ((height, 4 * columns),)
    return ((height, width if format == "grey" else 4 * width),)


def _check_plane(plane: object, shape: tuple[int, int], where: str) -> None:
    if not isinstance(plane, np.ndarray) or plane.dtype != np.uint8 or plane.ndim != 2:
        raise InputError(f"{where} is no two-dimensional uint8 array", hint="give its bytes, row by row")
    rows, columns = shape
    if plane.shape[0] != rows or plane.shape[1] < columns:
        raise InputError(
            f"{where} has shape {plane.shape}", hint=f"it needs {rows} rows of {columns} bytes or more"
        )
    row, byte = plane.strides
    if (byte != 1 and columns > 1) or (row < columns and rows > 1):
        raise InputError(
            f"{where} has strides {plane.strides}: mirrored, or its bytes are not packed",
            hint="make it contiguous: numpy.ascontiguousarray(plane)",
        )


def to_rgb(frame: Frame) -> Pixels:
    """Return the frame's pixels by the reference arithmetic: uint8, height x width x 3, red first."""
    height, width = frame.height, frame.width
    first = frame.planes[0]
    if frame.format == "grey":
        return np.repeat(first[:, :width, None], 3, axis=2)
    if frame.format not in YUV:
        pixels = first[:, : 4 * width].reshape(height, width, 4)[:, :, :3]
        return np.ascontiguousarray(pixels[:, :, ::-1] if frame.format == "bgrx" else pixels)
    luma, cb, cr = components(frame)
    between_columns, between_rows = SITINGS[frame.siting or "centre"]
    u, v = (
        (
            _spread(
                _spread(c, height, between_rows, frame.format in HALF_HEIGHT).T, width, between_columns, True
            ).T
            + 8
        )
        // 16
        - 128
        for c in (cb, cr)
    )
    return converted(frame, luma, u, v)


def converted(frame: Frame, luma: np.ndarray, u: np.ndarray, v: np.ndarray) -> Pixels:
    """Return rows x columns x 3 pixels of a frame's luma and of its chroma less 128, rows x columns each."""
    black, y, rv, gu, gv, bu = frame.coefficients
    bright = (luma.astype(np.int64) - black) * y
    planes = (bright + rv * v, bright + gu * u + gv * v, bright + bu * u)
    half = 1 << (PRECISION - 1)
    levels = np.stack([np.clip((p + half) >> PRECISION, 0, 255) for p in planes], axis=2)
    return np.ascontiguousarray(levels, np.uint8)


def components(frame: Frame) -> tuple[Pixels, Pixels, Pixels]:
    """Return luma and the two chroma planes as they are sampled."""
    columns = (frame.width + 1) // 2
    if frame.format == "i420":
        y, u, v = frame.planes
        return y[:, : frame.width], u[:, :columns], v[:, :columns]
    if frame.format in ("nv12", "nv21"):
        pairs = frame.planes[1][:, : 2 * columns]
        u, v = pairs[:, 0::2], pairs[:, 1::2]
        return (frame.planes[0][:, : frame.width], *((u, v) if frame.format == "nv12" else (v, u)))
    packed = frame.planes[0][:, : 4 * columns]
    luma, chroma = (0, 1) if frame.format == "yuyv" else (1, 0)
    return packed[:, luma::2][:, : frame.width], packed[:, chroma::4], packed[:, chroma + 2 :: 4]


def _spread(samples: np.ndarray, count: int, between: bool, halved: bool) -> np.ndarray:
    """Return four times the chroma at each of `count` luma rows."""
    wide = samples.astype(np.int64)
    if not halved:
        return 4 * wide
    at = np.arange(count)
    own, odd = at // 2, at % 2
    other = np.where(odd == 1, own + 1, own - 1 if between else own)
    weight = np.full(count, 1) if between else 2 * odd
    other = np.clip(other, 0, len(samples) - 1)
    blended: np.ndarray = wide[own] * (4 - weight)[:, None] + wide[other] * weight[:, None]
    return blended
