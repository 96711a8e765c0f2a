"""Which class is taken for which, and how well each is found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tledge.report.evidence import Indices


@dataclass(frozen=True)
class ClassScore:
    """One class: images of it, and recall, precision and F1 in percent; None where nothing is divided by."""

    index: int
    images: int
    answered: int
    recall: float | None
    precision: float | None
    f1: float | None


@dataclass(frozen=True)
class Pair:
    """`count` images of class `truth` (of `images` in all) were answered `answer`."""

    truth: int
    answer: int
    count: int
    images: int


def matrix(truth: Indices, best: Indices, classes: int) -> npt.NDArray[np.int64]:
    """Return counts, classes x classes: row the true class, column the answer."""
    counts = np.bincount(truth * classes + best, minlength=classes * classes)
    return np.asarray(counts.reshape(classes, classes), np.int64)


def class_scores(counts: npt.NDArray[np.int64]) -> tuple[ClassScore, ...]:
    """Return each class's recall, precision and F1 from a confusion matrix."""
    scores = []
    for index in range(len(counts)):
        right = int(counts[index, index])
        images, answered = int(counts[index].sum()), int(counts[:, index].sum())
        scores.append(
            ClassScore(
                index,
                images,
                answered,
                recall=_percent(right, images),
                precision=_percent(right, answered),
                f1=_percent(2 * right, images + answered),
            )
        )
    return tuple(scores)


def pairs(counts: npt.NDArray[np.int64], limit: int) -> tuple[Pair, ...]:
    """Return the commonest mistakes, at most `limit`: by frequency, then in the order of the classes."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
    found = [divmod(int(place), len(counts)) for place in order]
    return tuple(
        Pair(truth, answer, int(wrong[truth, answer]), int(counts[truth].sum()))
        for truth, answer in found
        if wrong[truth, answer]
    )


def _percent(part: int, whole: int) -> float | None:
    return 100.0 * part / whole if whole else None
