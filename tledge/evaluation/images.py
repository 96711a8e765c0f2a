"""The images that stages are scored on: those of a bundle, or of a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tledge.bundle import Bundle
from tledge.bundle.records import EvalImage
from tledge.data import Dataset
from tledge.errors import InputError


class Readable(Protocol):
    """An image with a name and bytes."""

    @property
    def name(self) -> str:
        """The name that people know it by."""

    def read(self) -> bytes:
        """Return the bytes of the image file."""


@dataclass(frozen=True)
class InBundle:
    """An eval image of a bundle; its bytes are compared with their hash when they are read."""

    bundle: Bundle
    entry: EvalImage

    @property
    def name(self) -> str:
        """The path that it had in the user's data."""
        return self.entry.name

    def read(self) -> bytes:
        """Return the bytes of the image file; BundleError if they are not those that were written."""
        return self.bundle.read(self.entry.file)


@dataclass(frozen=True)
class EvalSet:
    """Labelled images in a fixed order: each with its class, as an index into `classes`, and its hash."""

    images: tuple[Readable, ...]
    labels: tuple[int, ...]
    sha256: tuple[str, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def expected(self) -> NDArray[np.intp]:
        """Return the labels as an array."""
        return np.array(self.labels, np.intp)

    @property
    def data_sha256(self) -> str:
        """Return what stands in the ledger for these images; see `data_sha256`."""
        names = (self.classes[label] for label in self.labels)
        return data_sha256(zip(self.sha256, names, strict=True))


def data_sha256(pairs: Iterable[tuple[str, str]]) -> str:
    """Return the hash of a set of labelled images, in hexadecimal: independent of order and file names.

    It is the SHA-256 of one line for each image, sorted by byte value and joined. A line is the SHA-256 of
    the file's bytes in 64 lower-case hexadecimal digits, a blank (0x20), the label's name in UTF-8, and a
    line feed (0x0A). An image that is there twice gives its line twice. For a record of an IDX or CIFAR file
    the file is the PGM or PPM that `tledge.data.Sample.read` makes of it.
    """
    lines = sorted(f"{digest} {label}\n".encode() for digest, label in pairs)
    return hashlib.sha256(b"".join(lines)).hexdigest()


def of_bundle(bundle: Bundle) -> EvalSet:
    """Return the bundle's eval images.

    Raises:
        InputError: it has none.
    """
    entries = bundle.eval_images()
    if not entries:
        raise InputError(
            f"{bundle.path} holds no images to score on",
            hint="It was imported, or made with --eval-images 0: give a folder of labelled images.",
            path=bundle.path,
        )
    return EvalSet(
        images=tuple(InBundle(bundle, entry) for entry in entries),
        labels=tuple(entry.label for entry in entries),
        sha256=tuple(entry.sha256 for entry in entries),
        classes=bundle.labels,
    )


def of_dataset(dataset: Dataset, labels: Sequence[str]) -> EvalSet:
    """Return the images of the data set's scoring split (all of them where it has none), each read once.

    `labels` are the bundle's; the data set's classes are mapped to them by name.

    Raises:
        InputError: a file cannot be read, or a class is not among the labels.
    """
    unknown = [name for name in dataset.classes if name not in labels]
    if unknown:
        message = f"the class {unknown[0]!r} of {dataset.root} is not among the bundle's labels"
        raise InputError(message, hint=f"They are: {', '.join(labels)}.", path=dataset.root)
    samples = dataset.splits[dataset.scoring] if dataset.scoring else dataset.samples
    return EvalSet(
        images=samples,
        labels=tuple(labels.index(dataset.classes[sample.label]) for sample in samples),
        sha256=tuple(hashlib.sha256(sample.read()).hexdigest() for sample in samples),
        classes=tuple(labels),
    )
