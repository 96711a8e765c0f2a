"""What is wrong with a data set, found before an hour of training does; and the data set without it.

Every file is read once, by threads, and decoded far enough to know that it is whole.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tledge.data import groups, likeness
from tledge.data.ahead import ordered
from tledge.data.dataset import Dataset, Sample
from tledge.data.inspection import Facts, inspect
from tledge.errors import InputError
from tledge.progress import Progress

FEW = 5  # images of a class in a split; under it neither training nor a score means much
IMBALANCED = 10.0  # largest class to smallest in train
SMALL_SIDE = 32  # pixels: networks here see 224 or so, and would look at a blur
LONG = 4.0  # longer side to shorter: a centre crop would leave most of the image out
MOST_LEFT_OUT = 0.01


@dataclass(frozen=True)
class Audit:
    """Everything that was found. Names are those of the samples; all lists are complete but `near`.

    `unreadable` is (name, reason); `exact` groups files of the same bytes; `near` pairs of images that look
    alike (at most `likeness.MOST`, the exact ones not repeated); `across` the pairs (name, name) of exact
    duplicates in two splits, that in train first; `conflicting` the groups of exact duplicates under
    different classes; `few` (split, class, images); `imbalance` the largest class of train to its smallest;
    `modes` and `kinds` count images; `sides` are the least, median and greatest shorter side; a tenth of the
    images is `elongation` times as long as short, or more; `small` and `long` name images of odd size;
    `rotated` counts those that EXIF turns or mirrors; `sha256` gives each readable file's hash; `together`
    the train images that are frames of one thing, each with the name of its group (see `groups.find`).
    """

    counts: Mapping[str, Mapping[str, int]]
    unreadable: tuple[tuple[str, str], ...] = ()
    exact: tuple[tuple[str, ...], ...] = ()
    near: tuple[tuple[str, str], ...] = ()
    near_across: tuple[tuple[str, str], ...] = ()
    across: tuple[tuple[str, str], ...] = ()
    conflicting: tuple[tuple[str, ...], ...] = ()
    few: tuple[tuple[str, str, int], ...] = ()
    imbalance: float = 1.0
    modes: Mapping[str, int] = field(default_factory=dict)
    kinds: Mapping[str, int] = field(default_factory=dict)
    sides: tuple[int, int, int] = (0, 0, 0)
    elongation: float = 1.0
    small: tuple[str, ...] = ()
    long: tuple[str, ...] = ()
    rotated: int = 0
    ignored: Mapping[str, int] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict, repr=False)
    together: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def images(self) -> int:
        """Return the number of images that were looked at, readable or not."""
        return sum(sum(classes.values()) for classes in self.counts.values())

    def as_dict(self) -> dict[str, Any]:
        """Return the body of `tledge audit --json`."""
        return {
            "images": self.images,
            "counts": {split: dict(classes) for split, classes in self.counts.items()},
            "unreadable": [{"file": name, "reason": reason} for name, reason in self.unreadable],
            "duplicates": {
                "exact": [list(group) for group in self.exact],
                "near": [list(pair) for pair in self.near],
                "near_complete": len(self.near) < likeness.MOST,
                "across_splits": [list(pair) for pair in self.across],
                "near_across_splits": [list(pair) for pair in self.near_across],
                "conflicting": [list(group) for group in self.conflicting],
            },
            "few": [{"split": split, "class": name, "images": count} for split, name, count in self.few],
            "imbalance": round(self.imbalance, 2),
            "modes": dict(self.modes),
            "formats": dict(self.kinds),
            "short_side": dict(zip(("min", "median", "max"), self.sides, strict=True)),
            "small": list(self.small),
            "long": list(self.long),
            "rotated": self.rotated,
            "groups": {"images": len(self.together), "groups": len(set(self.together.values()))},
            "ignored": dict(self.ignored),
        }

    def text(self) -> str:
        """Return the audit as a person reads it, worst first."""
        from tledge.data.audit_text import lines

        return "\n".join(lines(self))


def audit(
    dataset: Dataset, *, near: bool = True, workers: int | None = None, progress: Progress | None = None
) -> Audit:
    """Look at every image of the data set and return what was found.

    Args:
        dataset: what `find` gave; split it first, so that duplicates across the split are found.
        near: whether images that look alike are searched for.
        workers: threads (default: the cores that this process may use).
        progress: where to show how far it is.
    """
    progress = progress or Progress.silent()
    samples = dataset.samples
    facts: list[Facts] = []
    workers = workers or len(os.sched_getaffinity(0))
    with progress.task("looking at images", total=len(samples)) as task:
        for fact in ordered(inspect, samples, workers=workers, ahead=16 * workers):
            facts.append(fact)
            task.advance()
    split_of = {sample.name: split for split, members in dataset.splits.items() for sample in members}
    good = [(sample, fact) for sample, fact in zip(samples, facts, strict=True) if fact.error is None]
    groups = _same_bytes(good)
    pairs = _near(good) if near else ()
    sides = sorted(min(fact.size) for _, fact in good) or [0]
    ratios = sorted(max(fact.size) / min(fact.size) for _, fact in good) or [1.0]
    train = [count for count in dataset.counts("train") if count]
    return Audit(
        counts={
            split: dict(zip(dataset.classes, dataset.counts(split), strict=True)) for split in dataset.splits
        },
        unreadable=tuple(
            (s.name, f.error) for s, f in zip(samples, facts, strict=True) if f.error is not None
        ),
        exact=tuple(tuple(sample.name for sample in group) for group in groups),
        near=pairs,
        near_across=tuple(pair for pair in pairs if split_of[pair[0]] != split_of[pair[1]]),
        across=tuple(pair for group in groups for pair in _across(group, split_of)),
        conflicting=tuple(
            tuple(s.name for s in group) for group in groups if len({s.label for s in group}) > 1
        ),
        few=tuple(
            (split, name, count)
            for split in dataset.splits
            for name, count in zip(dataset.classes, dataset.counts(split), strict=True)
            if count < FEW
        ),
        imbalance=max(train) / min(train) if train else 1.0,
        modes=dict(Counter(fact.mode for _, fact in good).most_common()),
        kinds=dict(Counter(fact.kind for _, fact in good).most_common()),
        sides=(sides[0], sides[len(sides) // 2], sides[-1]),
        elongation=ratios[9 * (len(ratios) - 1) // 10],
        small=tuple(sample.name for sample, fact in good if min(fact.size) < SMALL_SIDE),
        long=tuple(sample.name for sample, fact in good if max(fact.size) > LONG * min(fact.size)),
        rotated=sum(fact.orientation != 1 for _, fact in good),
        ignored=dict(Counter(_suffix(name) for name in dataset.ignored).most_common()),
        sha256={sample.name: fact.sha256 for sample, fact in good},
        together=_together(good, split_of),
    )


def _same_bytes(good: list[tuple[Sample, Facts]]) -> list[list[Sample]]:
    groups: dict[str, list[Sample]] = {}
    for sample, fact in good:
        groups.setdefault(fact.sha256, []).append(sample)
    return [group for group in groups.values() if len(group) > 1]


def _across(group: list[Sample], split_of: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return each file of a group with the one that it repeats in a later split (train, val, test)."""
    splits = ("train", "val", "test")
    last = max(group, key=lambda sample: splits.index(split_of[sample.name]))
    return [(s.name, last.name) for s in group if split_of[s.name] != split_of[last.name]]


def _together(good: list[tuple[Sample, Facts]], split_of: Mapping[str, str]) -> dict[str, str]:
    train = [(sample, fact) for sample, fact in good if split_of[sample.name] == "train"]
    pictures = {sample.name: fact.picture for sample, fact in train if fact.picture is not None}
    small = frozenset(sample.name for sample, fact in train if min(fact.size) < SMALL_SIDE)
    return groups.find([sample for sample, _ in train], pictures, small)


def _near(good: list[tuple[Sample, Facts]]) -> tuple[tuple[str, str], ...]:
    seen = [
        (sample.name, fact.sha256, fact.picture)
        for sample, fact in good
        if fact.picture is not None and min(fact.size) >= SMALL_SIDE
    ]
    pairs = likeness.alike([picture for _, _, picture in seen])
    return tuple((seen[i][0], seen[j][0]) for i, j in pairs if seen[i][1] != seen[j][1])


def _suffix(name: str) -> str:
    return "folders" if name.endswith("/") else os.path.splitext(name)[1].lower() or "no suffix"


def left_out(audit: Audit) -> dict[str, str]:
    """Return the images that are not used, by name, each with its reason.

    These are the unreadable ones, and those that stand, byte for byte, in a split which scores them (a train
    image that stands in val or test, a val image that stands in test).
    """
    reasons = dict(audit.unreadable)
    reasons.update((name, f"{name} has the same bytes as {other}") for name, other in audit.across)
    return reasons


def usable(dataset: Dataset, audit: Audit) -> Dataset:
    """Return the data set without the images of `left_out`, and without classes that have none left in train.

    Raises:
        InputError: fewer than two classes are left.
    """
    out = left_out(audit)
    emptied = {name for split, name in emptied_classes(dataset, audit) if split == "train"}
    classes = tuple(name for name in dataset.classes if name not in emptied)
    if len(classes) < 2:
        message = f"{dataset.root} has images that can be used in {len(classes)} of its classes only"
        raise InputError(
            message, hint="`tledge audit` lists what is wrong with the others.", path=dataset.root
        )
    position = {label: classes.index(name) for label, name in enumerate(dataset.classes) if name in classes}
    kept = {
        split: tuple(
            dataclasses.replace(sample, label=position[sample.label])
            for sample in members
            if sample.name not in out and sample.label in position
        )
        for split, members in dataset.splits.items()
    }
    return dataclasses.replace(dataset, classes=classes, splits=kept)


def emptied_classes(dataset: Dataset, audit: Audit) -> list[tuple[str, str]]:
    """Return (split, class) wherever a class that had images keeps none without those of `left_out`."""
    out = left_out(audit)
    found = []
    for split, members in dataset.splits.items():
        before = {sample.label for sample in members}
        after = {sample.label for sample in members if sample.name not in out}
        found += [(split, dataset.classes[label]) for label in sorted(before - after)]
    return found


def gate(dataset: Dataset, audit: Audit, *, skip_bad: bool = False) -> tuple[str, ...]:
    """Return what has to be said about the images that are left out, a line each; refuse a bad data set.

    Raises:
        InputError: more than 1 % of the images would be left out, or a class would keep none of its images in
            some split, and not `skip_bad`.
    """
    out = left_out(audit)
    emptied = [f"{name!r} in {split}" for split, name in emptied_classes(dataset, audit)]
    if skip_bad or (len(out) <= MOST_LEFT_OUT * audit.images and not emptied):
        said = [f"left out: {reason}" for reason in out.values()]
        return (*said, *(f"left out: the whole of {place}" for place in emptied))
    message = f"{len(out)} of {audit.images} images cannot be used ({out[min(out)]}"
    message += f" and {len(out) - 1} more)" if len(out) > 1 else ")"
    if emptied:
        message += f", which leaves no images of {', '.join(emptied)}"
    hint = "`tledge audit` lists them. Mend the data, or leave them out with --skip-bad."
    raise InputError(message, hint=hint, path=dataset.root)
