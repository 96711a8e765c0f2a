"""One specification of preprocessing, and the same bits wherever it runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from tledge.preprocess.checking import choice
from tledge.preprocess.spec import Box, Crop, Decode, Frames, Geometry, Letterbox, Spec

if TYPE_CHECKING:
    from tledge.preprocess.frames import Frame
    from tledge.preprocess.images import Pixels, Tensor

__all__ = [
    "Box",
    "Crop",
    "Decode",
    "Frames",
    "Geometry",
    "Letterbox",
    "Preprocessor",
    "Spec",
    "preprocessor",
]


class Preprocessor(Protocol):
    """Turns images into tensors; safe to use from several threads at once."""

    spec: Spec

    def __call__(self, image: Pixels | Frame, out: Tensor | None = None) -> Tensor:
        """Return the tensor (spec.shape, spec.dtype) of one image, written into `out` if that is given.

        Args:
            image: uint8, height x width x 3, red first; any positive row stride. Or a camera's frame.
            out: a contiguous array of spec.shape and spec.dtype.

        Raises:
            InputError: the image or `out` is not like that, or is too large to be resized.
        """

    def jpeg(self, data: bytes, out: Tensor | None = None, stamps: list[int] | None = None) -> Tensor | None:
        """Return the tensor of a JPEG file's bytes, decoding only what the crop needs, with the usual bits.

        None where that cannot be done (another format, CMYK, turned by EXIF, damaged...): decode it by
        `tledge.data.decode.image`, which knows what the spec says of decoding.
        To `stamps`, where given, goes the time (time.perf_counter_ns) at which decoding ended.
        """

    def batch(self, images: Iterable[Pixels | Frame], out: Tensor | None = None) -> Tensor:
        """Return the tensors of several images, of any sizes: N x spec.shape."""

    def pixels(self, image: Pixels | Frame) -> Pixels:
        """Return the resampled image before normalisation: uint8, height x width x 3, red first."""

    def normalise(self, pixels: Pixels) -> Tensor:
        """Return the tensor of uint8 (N x) height x width x 3 pixels, of any size, by the same tables."""


def preprocessor(spec: Spec, using: str = "host", threads: int = 1) -> Preprocessor:
    """Return what turns images into tensors under `spec`.

    Args:
        spec: the specification.
        using: "host", the compiled kernels, or "pillow", the reference. Both give the same bits.
        threads: how many threads of the host work on a batch or on one large image.

    Raises:
        InputError: no such preprocessor.
        MachineError: the compiled library is missing.
    """
    if choice(using, ("host", "pillow"), "using") == "pillow":
        from tledge.preprocess.pillow import PillowPreprocessor

        return PillowPreprocessor(spec)
    from tledge.preprocess.host import HostPreprocessor

    return HostPreprocessor(spec, threads)
