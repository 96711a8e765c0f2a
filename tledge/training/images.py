"""The training images: read once, checked by hash, and kept small in memory for the epochs."""

from __future__ import annotations

import functools
import hashlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tledge.bundle import TrainFile
from tledge.data import decode
from tledge.data.ahead import ordered
from tledge.data.dataset import sample_at
from tledge.errors import InputError
from tledge.preprocess import Box, Preprocessor, Spec, preprocessor
from tledge.preprocess.spec import LARGEST_SIDE

Pixels = NDArray[np.uint8]

# Random crops of a photo of twelve megapixels need no more than this over the spec's own side.
SPARE = 1.25
MEMORY_SHARE = 0.25  # of what is free: other programs run here too


class Images:
    """The images of a run by index; safe to use from several threads."""

    def __init__(self, files: Sequence[TrainFile], root: Path, spec: Spec) -> None:
        self.files = tuple(files)
        self.labels = np.array([file.label for file in files], np.int64)
        self._root = root
        self.spec = spec
        self._short = math.ceil(SPARE * max(spec.size))
        self._kept: dict[int, Pixels] = {}
        self._room = int(MEMORY_SHARE * free_memory())
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.files)

    def whole(self, index: int) -> Pixels:
        """Return the image at its full size, uint8 H x W x 3; a small copy is kept for `small`.

        Raises:
            InputError: it cannot be read, or is no longer what it was when the run began.
        """
        file = self.files[index]
        sample = sample_at(self._root, file.path, file.label)
        data = sample.read()
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise InputError(
                f"{sample.path} changed since this run began",
                hint="Put the old file back, or start anew with --force.",
                path=sample.path,
            )
        image: Pixels = decode.image(data, spec=self.spec, name=file.path)
        if index not in self._kept:
            small = self._shrink(image)
            with self._lock:
                if small.nbytes <= self._room and index not in self._kept:
                    self._room -= small.nbytes
                    self._kept[index] = small
        return image

    def small(self, index: int) -> Pixels:
        """Return the image for random crops: its short side at most 1.25 times the spec's."""
        kept = self._kept.get(index)
        return self._shrink(self.whole(index)) if kept is None else kept

    def _shrink(self, image: Pixels) -> Pixels:
        height, width = image.shape[:2]
        short = min(height, width)
        rows, columns = round(height * self._short / short), round(width * self._short / short)
        if short <= self._short or max(rows, columns) > LARGEST_SIDE:
            return np.array(image)
        return _resizer(rows, columns).pixels(image)


@functools.lru_cache(maxsize=64)
def _resizer(height: int, width: int) -> Preprocessor:
    """Return what resizes images to `height` x `width`, as Pillow does it and in a tenth of its time."""
    return preprocessor(Spec(geometry=Box((height, width)), filter="bilinear"))


def batches(
    make: Callable[[int], NDArray[Any]],
    order: Sequence[int],
    size: int,
    workers: int,
) -> Iterator[tuple[list[int], NDArray[Any]]]:
    """Yield (indices, stacked results) of `make` over `order`, made ahead by threads, `size` at a time."""
    waiting: list[NDArray[Any]] = []
    start = 0
    for one in ordered(make, order, workers=workers, ahead=3 * size):
        waiting.append(one)
        if len(waiting) == size or start + len(waiting) == len(order):
            yield [int(index) for index in order[start : start + len(waiting)]], np.stack(waiting)
            start += len(waiting)
            waiting = []


def free_memory() -> int:
    """Return how many bytes programs can still take without swapping."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 1 << 30
