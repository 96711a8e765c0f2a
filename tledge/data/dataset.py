"""A data set: samples with labels, in splits, under classes in a stated order."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tledge.data import records
from tledge.data.names import natural_key
from tledge.errors import InputError, nearest

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Sample:
    """One labelled image: a file of its own, or record `index` (from 0) of an IDX or CIFAR file.

    `name` is unique in the data set and finds the image again from the data set's root (see `sample_at`).
    """

    name: str
    label: int
    path: Path
    index: int | None = None

    def read(self) -> bytes:
        """Return the bytes of the image file; a binary PGM or PPM is made of a record.

        Raises:
            InputError: the file is missing or cannot be read.
        """
        if self.index is not None:
            return records.image_bytes(self.path, self.index)
        try:
            return self.path.read_bytes()
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(f"{self.name} cannot be read: {reason}", path=self.path) from error


@dataclass(frozen=True)
class Dataset:
    """What was found: classes in order, samples by split ("train", "val", "test": those there are).

    `ignored` names files that are not taken for images, by their suffix; `kind` is the layout ("folders",
    "flat", "csv", "idx", "cifar"). Data without splits ("flat", or a CSV without them) have only "train".
    """

    root: Path
    classes: tuple[str, ...]
    splits: Mapping[str, tuple[Sample, ...]]
    ignored: tuple[str, ...] = ()
    kind: str = "folders"

    @property
    def train(self) -> tuple[Sample, ...]:
        """Return what is trained on (and what tune is taken from)."""
        return self.splits.get("train", ())

    @property
    def scoring(self) -> str | None:
        """Return the split that scores: "test" where there is one, else "val", else None."""
        return next((name for name in ("test", "val") if name in self.splits), None)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Return all samples, split by split."""
        return tuple(sample for split in self.splits.values() for sample in split)

    def counts(self, split: str) -> list[int]:
        """Return the number of samples of each class in a split, in the order of the classes."""
        found = Counter(sample.label for sample in self.splits.get(split, ()))
        return [found[label] for label in range(len(self.classes))]

    def replace(self, **splits: tuple[Sample, ...]) -> Dataset:
        """Return the same data set with some of its splits exchanged or added."""
        merged = {**self.splits, **splits}
        return dataclasses.replace(self, splits={name: merged[name] for name in SPLITS if name in merged})


def sample_at(root: str | Path, name: str, label: int = 0) -> Sample:
    """Return the sample that has this name in the data set at `root`: how a bundle finds its images again."""
    path = Path(root) / name
    file, mark, number = name.rpartition("#")
    if mark and number.isascii() and number.isdigit() and not path.exists():
        return Sample(name, label, Path(root) / file, int(number))
    return Sample(name, label, path)


def assemble(
    root: Path,
    kind: str,
    found: Mapping[str, Sequence[tuple[str, Path, int | None, str]]],
    *,
    listed: tuple[str, ...] | None,
    labels: Sequence[str] | None,
    ignored: Sequence[str] = (),
) -> Dataset:
    """Return the data set of what was found: (class, file, record, name) by split.

    The classes are `labels` where a caller has them already (a bundle's: then classes may be missing here),
    else those `listed` in a classes.txt, else all that were met, in natural order.

    Raises:
        InputError: a class is unknown, or missing from a split, or there are fewer than two.
    """
    met = {name for split in found.values() for name, *_ in split}
    if not met:
        raise InputError(f"no images in {root}", hint=_LAYOUTS, path=root)
    classes = tuple(labels or listed or sorted(met, key=natural_key))
    where = "the bundle's labels" if labels else "classes.txt"
    for name in sorted(met - set(classes), key=natural_key):
        raise InputError(
            f"the class {name!r} of {root} is not in {where}", hint=nearest(name, classes), path=root
        )
    if not labels:
        _check_complete(root, kind, classes, {key: {row[0] for row in rows} for key, rows in found.items()})
    position = {name: label for label, name in enumerate(classes)}
    splits = {
        split: tuple(Sample(name, position[cls], path, index) for cls, path, index, name in found[split])
        for split in SPLITS
        if split in found
    }
    return Dataset(root, classes, splits, tuple(ignored), kind)


_LAYOUTS = (
    "Give a folder with one folder a class (DATA/CLASS/*.jpg, or DATA/train/CLASS/*.jpg and DATA/val/...), "
    "a CSV file with the columns path,label[,split], or a folder of IDX or CIFAR files."
)


def _check_complete(root: Path, kind: str, classes: tuple[str, ...], met: Mapping[str, set[str]]) -> None:
    for split, there in met.items():
        place = f"{root} ({split})" if len(met) > 1 else str(root)
        missing = [name for name in classes if name not in there]
        if missing:
            names = ", ".join(repr(name) for name in missing[:5]) + (", ..." if len(missing) > 5 else "")
            others = [other for other in met if missing[0] in met[other]]
            also = (
                f", but {'has' if len(missing) == 1 else 'have'} in {' and '.join(others)}" if others else ""
            )
            which = "class" if len(missing) == 1 else f"{len(missing)} classes"
            raise InputError(
                f"{which} {names} {'has' if len(missing) == 1 else 'have'} no images in {place}{also}",
                hint="Every class needs images in every split: add some, or take the class out everywhere.",
                path=root,
            )
    if len(classes) < 2:
        raise InputError(
            f"{root} has only one class, {classes[0]!r}",
            hint="A classifier needs two or more. " + (_LAYOUTS if kind == "flat" else ""),
            path=root,
        )
