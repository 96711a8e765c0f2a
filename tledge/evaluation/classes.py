"""How well each class is found, and what that makes where classes differ in size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from tledge.evaluation.scores import check

Indices = npt.NDArray[np.intp]
WEAKEST = 3  # classes that are named to people


@dataclass(frozen=True)
class ClassScore:
    """One class: images of it, those answered rightly, and all answers that name it.

    Recall, precision and F1 are in percent; None where nothing is divided by.
    """

    index: int
    images: int
    right: int
    answered: int
    recall: float | None
    precision: float | None
    f1: float | None


@dataclass(frozen=True)
class Balanced:
    """Scores in which each class counts alike, in percent, as scikit-learn defines them.

    Attributes:
        accuracy: the mean recall of the classes that the images are of.
        macro_f1: the mean F1 of the classes that the images are of or that were answered.
        classes: each class's own scores, in their order.
    """

    accuracy: float
    macro_f1: float
    classes: tuple[ClassScore, ...]

    def as_dict(self, labels: Sequence[str]) -> dict[str, Any]:
        """Return the object of `tledge evaluate --json`."""
        return {
            "balanced_accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "recall": {labels[one.index]: one.recall for one in self.classes},
        }

    def text(self, labels: Sequence[str]) -> str:
        """Return a line for people, the weakest classes named."""
        met = [one for one in self.classes if one.recall is not None]
        weakest = sorted(met, key=lambda one: (one.recall, one.index))[:WEAKEST]
        named = ", ".join(f"{labels[one.index]} {one.recall:.1f} of {one.images}" for one in weakest)
        return (
            f"balanced accuracy {self.accuracy:.2f} %, macro-F1 {self.macro_f1:.2f} %; least recall: {named}"
        )


def balanced(logits: npt.NDArray[Any], labels: ArrayLike) -> Balanced:
    """Return the scores of logits, N x classes, in which each class counts alike.

    Raises:
        InputError: as `scores.score`.
    """
    truth = check(logits, labels)
    scores = class_scores(matrix(truth, logits.argmax(axis=1), logits.shape[1]))
    recalls = [one.recall for one in scores if one.recall is not None]
    f1s = [one.f1 for one in scores if one.f1 is not None]
    return Balanced(float(np.mean(recalls)), float(np.mean(f1s)), scores)


def matrix(truth: Indices, answers: Indices, classes: int) -> npt.NDArray[np.int64]:
    """Return counts, classes x classes: row the true class, column the answer."""
    counts = np.bincount(truth * classes + answers, minlength=classes * classes)
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
                right,
                answered,
                recall=_percent(right, images),
                precision=_percent(right, answered),
                f1=_percent(2 * right, images + answered),
            )
        )
    return tuple(scores)


def _percent(part: int, whole: int) -> float | None:
    return 100.0 * part / whole if whole else None
