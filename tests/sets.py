"""The folders that docs/recipes.md names, in small: real digits in the files of MNIST and of CIFAR-10."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TRAIN, TEST = 200, 30


def write(folder: Path, photos: Path) -> None:
    """Make folder/{mnist,fashion-mnist,cifar10} of handwritten digits, {gtsrb,magnetic_tile} of `photos`."""
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = np.kron(data.images * 255 / 16, np.ones((3, 3))).round().astype(np.uint8)
    labels = data.target.astype(np.uint8)
    for name, side in (("mnist", 28), ("fashion-mnist", 28), ("cifar10", 32)):
        (folder / name).mkdir(parents=True)
        edge = (side - pixels.shape[1]) // 2
        images = np.pad(pixels, ((0, 0), (edge, edge), (edge, edge)))
        parts = {"train": slice(0, TRAIN), "test": slice(TRAIN, TRAIN + TEST)}
        for split, part in parts.items():
            (_cifar if name == "cifar10" else _idx)(folder / name, split, images[part], labels[part])
    for name in ("gtsrb", "magnetic_tile"):
        shutil.copytree(photos, folder / name)


def _idx(folder: Path, split: str, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    for what, values in (("images", images), ("labels", labels)):
        head = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
        name = f"{'t10k' if split == 'test' else split}-{what}-idx{values.ndim}-ubyte"
        (folder / name).write_bytes(head + values.tobytes())


def _cifar(folder: Path, split: str, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    planes = np.tile(images.reshape(len(images), 1, -1), (1, 3, 1)).reshape(len(images), -1)
    name = "test_batch.bin" if split == "test" else "data_batch_1.bin"
    (folder / name).write_bytes(np.hstack([labels[:, None], planes]).tobytes())
