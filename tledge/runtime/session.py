"""A session: one graph, opened by one backend, that turns an input tensor into logits.

Each backend checks its graph here, so that all refuse the same graphs with the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tledge.errors import InputError
from tledge.preprocess.frames import Frame
from tledge.preprocess.images import Pixels
from tledge.runtime.postprocess import Ranking

Array = NDArray[Any]

INPUT_TYPES = ("float32", "float16", "uint8", "int8")  # what a spec can make
OUTPUT_TYPES = ("float32", "float16", "float64")


@dataclass(frozen=True)
class Port:
    """One input or output of a graph: name, numpy's name of its type, dimensions (None: dynamic)."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        """Show the port as a person writes it: `images float32 N x 3 x 224 x 224`."""
        dimensions = " x ".join("N" if size is None else str(size) for size in self.shape)
        return f"{self.name} {self.dtype} {dimensions or '(a scalar)'}"


class Lent(Protocol):
    """Memory of the host that a device reads: `images`, N x the shape of one, is filled; `run` answers.

    The answers are of what ran last, and valid until it runs again or is given back.
    """

    images: Array

    def run(self, count: int) -> None:
        """Have the first `count` images answered."""

    def run_pixels(self, images: Sequence[Pixels | Frame]) -> bool:
        """Have decoded images answered, resampled on the device; False where they do not fit into it.

        InputError: one of them is no image, as in preprocessing on the host.
        """

    def run_timed(
        self, count: int, images: Sequence[Pixels | Frame] | None = None
    ) -> dict[str, float] | None:
        """Do as `run`, or with `images` as `run_pixels`; return by its name how long each stage took, in ms.

        It is for the thread that opened the session. None where the images do not fit.
        """

    def top(self, count: int, k: int) -> list[Ranking]:
        """Return the `k` best classes of each of `count` images; see `tledge.runtime.postprocess.top`.

        Their probabilities are at the temperature that the session was opened with.
        """


@dataclass(frozen=True)
class Session:
    """A graph that is ready to run; safe to use from several threads at once.

    `input_shape` is (N, C, H, W) or (N, H, W, C) with None for what is dynamic, `input_dtype` a numpy dtype
    name, `classes` the number of logits an image, `device` where it runs ("cpu", "cuda:0"), `threads` how
    many threads one inference uses, `largest` the most images that it takes at once (None: any number).
    `lend`, where there is one, lends memory that the device reads, to be filled in place; `lanes` is how many
    threads it lends to at a time, and so how many frames are worth answering together; `takes_pixels` whether
    what is lent can `run_pixels`. `notes` are what a user should be told of how it runs here.
    """

    backend: str
    variant: str
    device: str
    threads: int
    input_name: str
    input_shape: tuple[int | None, ...]
    input_dtype: str
    classes: int
    infer: Callable[[Array], Array]  # the library's own call: a contiguous tensor in, a fresh array out
    largest: int | None = None
    lend: Callable[[], AbstractContextManager[Lent]] | None = None
    lanes: int = 1
    takes_pixels: bool = False
    notes: tuple[str, ...] = ()
    release: Callable[[], None] = lambda: None
    _char: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Note numpy's one-letter name of the input's type."""
        object.__setattr__(self, "_char", np.dtype(self.input_dtype).char)

    def at_once(self, wanted: int) -> int:
        """Return how many images to run together, `wanted` if it takes so many."""
        return wanted if self.largest is None else min(wanted, self.largest)

    def close(self) -> None:
        """Give back what it holds on a device, in the thread that opened it. It cannot run any more then."""
        self.release()

    def run(self, x: Array) -> NDArray[np.float32]:
        """Return logits, float32 N x classes, a fresh array, for the input tensor `x`.

        A graph of fixed batch is run as often as needed, its last batch filled up with copies of the last
        image. InputError: `x` has another shape or dtype than the graph takes.
        """
        # An inference leaves the caches cold, in which each step here costs microseconds: the common case
        # asks as little as it can (numpy's dtype.name alone takes 20 us).
        if x.dtype.char != self._char or not _fits(x.shape[1:], self.input_shape[1:]) or not len(x):
            wanted = Port(self.input_name, self.input_dtype, self.input_shape)
            got = Port("a tensor", x.dtype.name, x.shape)
            raise InputError(f"the graph takes {wanted}, and was given {got}")
        x = np.ascontiguousarray(x)
        fixed = self.input_shape[0]
        if fixed is None or fixed == len(x):
            logits = self.infer(x)
        else:
            logits = np.concatenate([self.infer(part) for part in _parts(x, fixed)])[: len(x)]
        if logits.shape == (len(x), self.classes) and logits.dtype.char == "f":
            return logits
        return logits.reshape(len(x), self.classes).astype(np.float32)


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    if shape == wanted:
        return True
    return len(shape) == len(wanted) and all(w is None or s == w for s, w in zip(shape, wanted, strict=True))


def _parts(x: Array, size: int) -> list[Array]:
    missing = -len(x) % size
    full = np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]) if missing else x
    return [full[start : start + size] for start in range(0, len(full), size)]


def source_name(onnx: bytes | Path) -> str:
    """Return what messages call this graph: its path, or "the ONNX graph"."""
    return str(onnx) if isinstance(onnx, Path) else "the ONNX graph"


def error_path(onnx: bytes | Path) -> Path | None:
    """Return the path that an error about this graph carries."""
    return onnx if isinstance(onnx, Path) else None


def check_source(onnx: bytes | Path) -> None:
    """Refuse, before a library sees it, a graph that is missing or empty (InputError)."""
    if isinstance(onnx, Path) and not onnx.is_file():
        raise InputError(f"there is no file {onnx}", hint="Give the path of an ONNX file.", path=onnx)
    size = onnx.stat().st_size if isinstance(onnx, Path) else len(onnx)
    if size == 0:
        raise InputError(
            f"{source_name(onnx)} is empty (0 bytes)", hint="Export or copy it again.", path=error_path(onnx)
        )


def check_ports(onnx: bytes | Path, inputs: Sequence[Port], outputs: Sequence[Port]) -> tuple[Port, Port]:
    """Return the one image input and the one output of logits; InputError if it is no image classifier.

    The input must be N x 3 x H x W or N x H x W x 3 of a type that a spec can make; the output N x classes,
    or the same with trailing dimensions of one (global pooling without a flatten).
    """

    def refuse(message: str, hint: str) -> InputError:
        return InputError(f"{source_name(onnx)} {message}", hint=hint, path=error_path(onnx))

    if len(inputs) != 1:
        listed = "; ".join(map(str, inputs)) or "none"
        raise refuse(
            f"has {len(inputs)} inputs, where an image classifier has one ({listed})",
            "Export the network with the image as its only input.",
        )
    image = inputs[0]
    channels = (image.shape[1], image.shape[3]) if len(image.shape) == 4 else ()
    if 3 not in channels and None not in channels:
        raise refuse(
            f"has no image input: its input is {image}", "The input must be N x 3 x H x W, or N x H x W x 3."
        )
    if image.dtype not in INPUT_TYPES:
        raise refuse(f"takes {image}", f"The input must be one of {', '.join(INPUT_TYPES)}.")
    if len(outputs) != 1:
        listed = "; ".join(map(str, outputs)) or "none"
        raise refuse(
            f"has {len(outputs)} outputs, where a classifier has one ({listed})",
            "Export the network with the logits as its only output.",
        )
    logits = outputs[0]
    if (
        logits.dtype not in OUTPUT_TYPES
        or len(logits.shape) < 2
        or any(s not in (1, None) for s in logits.shape[2:])
    ):
        raise refuse(f"gives {logits}", "The output must be logits: a floating-point tensor, N x classes.")
    return image, logits


def count_classes(
    onnx: bytes | Path,
    image: Port,
    logits: Port,
    infer: Callable[[Array], Array],
    shape: tuple[int, ...] | None,
) -> int:
    """Run one inference on a tensor of zeros and return the number of logits it gives.

    This is the warm-up too: libraries allocate and choose their kernels in the first inference, which the
    user should not wait for. Where height or width are dynamic and `shape` (without the batch) is not given,
    nothing is run and the graph's own word is taken.
    """
    sizes = [image.shape[0] or 1, *image.shape[1:]]
    if shape is not None and _fits(shape, image.shape[1:]):
        sizes = [sizes[0], *shape]
    if None in sizes:
        if logits.shape[1] is None:
            raise InputError(
                f"{source_name(onnx)} gives neither image size ({image}) nor number of classes ({logits})",
                hint="Export it with a fixed height and width.",
                path=error_path(onnx),
            )
        return logits.shape[1]
    answer = infer(np.zeros([int(size or 1) for size in sizes], dtype=image.dtype))
    if answer.shape[:1] != (sizes[0],) or answer.ndim < 2 or answer.size != sizes[0] * answer.shape[1]:
        raise InputError(
            f"{source_name(onnx)} answers {tuple(sizes)} with {answer.shape}, not N x classes",
            hint="Export the network with the logits as its only output.",
            path=error_path(onnx),
        )
    return int(answer.shape[1])
