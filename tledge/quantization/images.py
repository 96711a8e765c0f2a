"""The images of a calibration: chosen by rule, checked by hash, turned into tensors in one fixed order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tledge.bundle import Bundle
from tledge.data import Sample, decode, find, sample_at, split
from tledge.data.ahead import stacked
from tledge.errors import InputError
from tledge.evaluation.images import EvalSet, of_bundle, of_dataset
from tledge.preprocess import Preprocessor

# One batch everywhere: a library may add in another order for another batch.
BATCH = 4
WORKERS = 2


@dataclass(frozen=True)
class Image:
    """One image: where to read it, its class, and the hash of its bytes (None: not read yet)."""

    sample: Sample
    label: int
    sha256: str


@dataclass(frozen=True)
class Images:
    """What a calibration works on, each part sorted by hash.

    `calibration` gives the ranges, `tune` makes every choice, `scoring` only scores.
    """

    calibration: tuple[Image, ...]
    tune: tuple[Image, ...]
    scoring: EvalSet


def choose(bundle: Bundle, data: Path | None, count: int, tune_count: int) -> Images:
    """Return the images: the train files that the bundle remembers, or those of the folder `data`.

    Raises:
        InputError: there are none, they are not what the bundle was trained on, or all are of one class.
    """
    if data is not None:
        return _of_folder(bundle, data, count, tune_count)
    files = bundle.train_files()
    again = f"Give a folder of labelled images: `tledge calibrate {bundle.path} DATA`."
    if not files:
        raise InputError(f"{bundle.path} remembers no train images", hint=again, path=bundle.path)
    root = bundle.train_root
    if not Path(root).exists():
        raise InputError(f"the train images of {bundle.path} are gone: no {root}", hint=again, path=root)
    parts = {}
    for part, wanted in (("train", count), ("tune", tune_count)):
        images = [Image(sample_at(root, f.path, f.label), f.label, f.sha256) for f in files if f.part == part]
        parts[part] = balanced(images, wanted)
    # A handful of images gives no tune part; choosing on what was calibrated with is then the best there is.
    chosen = Images(parts["train"], parts["tune"] or parts["train"][:tune_count], of_bundle(bundle))
    _check(chosen, Path(root))
    return chosen


def _of_folder(bundle: Bundle, data: Path, count: int, tune_count: int) -> Images:
    dataset = find(data, labels=bundle.labels)
    own = bool(bundle.eval_images())
    if not own:
        dataset = split.with_val(dataset, seed=0)
    scoring = of_bundle(bundle) if own else of_dataset(dataset, bundle.labels)
    train, tune = split.tune(dataset.train or dataset.samples, seed=0)
    held = set(scoring.sha256)
    parts = []
    for samples, wanted in ((train, count), (tune, tune_count)):
        some = balanced(
            [Image(s, s.label, hashlib.sha256(s.name.encode()).hexdigest()) for s in samples], wanted
        )
        hashed = [Image(i.sample, i.label, hashlib.sha256(i.sample.read()).hexdigest()) for i in some]
        parts.append(tuple(sorted((i for i in hashed if i.sha256 not in held), key=lambda i: i.sha256)))
    chosen = Images(parts[0], parts[1] or parts[0][:tune_count], scoring)
    _check(chosen, data)
    return chosen


def _check(images: Images, place: Path) -> None:
    if not images.calibration:
        raise InputError(f"there are no images to calibrate with in {place}", path=place)
    if not len(images.scoring):
        raise InputError(
            f"{place} leaves no images to score on: a class of one image gives none",
            hint="Give two images of a class or more, or a folder val beside train.",
            path=place,
        )
    if len({image.label for image in images.calibration}) < 2:
        raise InputError(
            f"all images to calibrate with in {place} are of one class",
            hint="Ranges found on one class do not hold for the others: give images of several.",
            path=place,
        )


def balanced(images: Sequence[Image], count: int) -> tuple[Image, ...]:
    """Return at most `count` images, as many of each class as there are, sorted by hash.

    Within a class those of the smallest hashes are taken, which is a fixed random choice.
    """
    classes: dict[int, list[Image]] = {}
    for image in sorted(images, key=lambda one: one.sha256):
        classes.setdefault(image.label, []).append(image)
    # The k-th image of each class before the next of any.
    turns = sorted((turn, label) for label, members in classes.items() for turn in range(len(members)))
    chosen = [classes[label][turn] for turn, label in turns[:count]]
    return tuple(sorted(chosen, key=lambda one: one.sha256))


def tensors(prepare: Preprocessor, images: Sequence[Image]) -> Iterator[NDArray[np.float32]]:
    """Return the input tensors of the images in batches of BATCH, read and decoded ahead by threads.

    Raises:
        InputError: an image is missing, cannot be decoded, or is not the one that was trained on.
    """

    def tensor(image: Image) -> NDArray[np.float32]:
        data = image.sample.read()
        if hashlib.sha256(data).hexdigest() != image.sha256:
            raise InputError(
                f"{image.sample.name} is not the image that the network was trained on: its bytes changed",
                hint="Restore it, or give a folder of images: `tledge calibrate B DATA`.",
                path=image.sample.path,
            )
        return np.asarray(decode.tensor(data, prepare, name=image.sample.name), np.float32)

    return stacked(tensor, images, BATCH, workers=WORKERS, ahead=4 * BATCH)
