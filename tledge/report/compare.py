"""Two bundles side by side, on the same images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tledge.bundle import Row
from tledge.errors import InputError
from tledge.evaluation.classes import class_scores, matrix
from tledge.evaluation.paired import Comparison, compare
from tledge.report.evidence import Answers, Evidence
from tledge.report.tables import flat_settings
from tledge.report.text import clean, value

ABSENT = "–"


@dataclass(frozen=True)
class StagePair:
    """One stage of the ledger in both bundles; `paired` where both keep their answers: B2 against B."""

    stage: str
    first: Row | None
    second: Row | None
    paired: Comparison | None


@dataclass(frozen=True)
class Difference:
    """A setting that is not the same in both."""

    name: str
    first: str
    second: str


@dataclass(frozen=True)
class ClassPair:
    """Recall of one class in both, percent; None where the class has no image."""

    label: str
    images: int
    first: float | None
    second: float | None


@dataclass(frozen=True)
class Compared:
    """Everything that the report says about two bundles."""

    stages: tuple[StagePair, ...]
    settings: tuple[Difference, ...]
    stage: str | None
    classes: tuple[ClassPair, ...]


def compared(first: Evidence, second: Evidence, stage: str | None = None) -> Compared:
    """Compare two bundles: their ledgers, settings, and each class's recall at `stage`.

    Raises:
        InputError: they were scored on other images, or name other classes.
        UsageError: `stage` is in one of them not scored.
    """
    _check(first, second)
    own, other = first.subject(stage), None
    if own is not None and (stage is not None or own.stage in second.answers):
        other = second.subject(own.stage)
    return Compared(
        _stages(first, second),
        _settings(first, second),
        own.stage if own and other else None,
        _classes(first, own, second, other) if own and other else (),
    )


def _check(first: Evidence, second: Evidence) -> None:
    places = f"{first.bundle.path} and {second.bundle.path}"
    hint = "Only scores on the same images can be compared: fine-tune both on one data set, with one split."
    known = [
        {row.data_sha256 for row in one.rows} | ({one.data_sha256} if one.data_sha256 else set())
        for one in (first, second)
    ]
    if known[0] and known[1] and known[0] != known[1]:
        raise InputError(f"{places} were scored on different images", hint=hint, path=second.bundle.path)
    if sorted(first.labels) != sorted(second.labels):
        raise InputError(f"{places} name different classes", hint=hint, path=second.bundle.path)


def _stages(first: Evidence, second: Evidence) -> tuple[StagePair, ...]:
    rows = [{row.stage: row for row in one.rows} for one in (first, second)]
    found = []
    for stage in dict.fromkeys([*rows[0], *rows[1]]):
        own, other = first.answers.get(stage), second.answers.get(stage)
        paired = compare(own.logits, aligned(first, second, other), first.truth) if own and other else None
        found.append(StagePair(stage, rows[0].get(stage), rows[1].get(stage), paired))
    return tuple(found)


def aligned(first: Evidence, second: Evidence, answers: Answers) -> Any:
    """Return `second`'s logits in the order of `first`'s images and classes."""
    # The same image may be there twice: the k-th of one is the k-th of the other.
    places: dict[str, list[int]] = {}
    for index, image in reversed(list(enumerate(second.images))):
        places.setdefault(image.sha256, []).append(index)
    rows = np.array([places[image.sha256].pop() for image in first.images], np.intp)
    columns = np.array([second.labels.index(label) for label in first.labels], np.intp)
    return answers.logits[rows][:, columns]


def _settings(first: Evidence, second: Evidence) -> tuple[Difference, ...]:
    flat = [dict(flat_settings(one.bundle.settings)) for one in (first, second)]
    names = [name for name in dict.fromkeys([*flat[0], *flat[1]]) if flat[0].get(name) != flat[1].get(name)]
    return tuple(
        Difference(clean(name), *(value(one[name]) if name in one else ABSENT for one in flat))
        for name in names
    )


def _classes(first: Evidence, own: Answers, second: Evidence, other: Answers) -> tuple[ClassPair, ...]:
    classes = len(first.labels)
    before = class_scores(matrix(first.truth, own.best, classes))
    moved = aligned(first, second, other).argmax(axis=1)
    after = class_scores(matrix(first.truth, moved, classes))
    return tuple(
        ClassPair(clean(label), a.images, a.recall, b.recall)
        for label, a, b in zip(first.labels, before, after, strict=True)
    )
