"""The temperature that makes a network as sure as it is right, and what rejecting unsure answers costs.

C. Guo et al., "On calibration of modern neural networks" (ICML 2017): one number divides all logits. It is
fitted on tune, by the labels for the float network, and for a variant by the probabilities of the float
network that it was made from: those need no labels, so that a few images are enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tledge.bundle import Bundle, probabilities
from tledge.evaluation import card
from tledge.evaluation.paired import log_softmax

# Below a half tune says nothing: where every answer is right the best temperature is zero.
SMALLEST, LARGEST = 0.5, 20.0
STEPS = 60
# How far temperatures lie from 1, as a factor: most networks' are within 1.6. It weighs as much as some
# images do, and keeps a handful of right answers from asking for certainty.
SPREAD = math.log(1.6)


@dataclass(frozen=True)
class Rejection:
    """Percent of the images that are answered at a threshold, and of those the percentage that is right.

    `accuracy` is None where no image is answered.
    """

    threshold: float
    coverage: float
    accuracy: float | None

    def __str__(self) -> str:
        """Show it as a line for people."""
        right = "" if self.accuracy is None else f", and {self.accuracy:.2f} % of the answers are right"
        return f"answers below {self.threshold:.0%} count as none: {self.coverage:.2f} % are answered{right}"

    def as_dict(self) -> dict[str, float | None]:
        """Return the object of `tledge evaluate --json`."""
        return {"below": self.threshold, "coverage": self.coverage, "accuracy": self.accuracy}


def fit(logits: NDArray[Any], labels: ArrayLike) -> float:
    """Return the temperature for logits, N x classes, of images with these labels.

    The most probable one, for a temperature that is 1 but for a factor of 1.6 before any image is seen.
    """
    expected = np.asarray(labels, np.intp)
    if not len(expected):
        return 1.0
    rows = np.arange(len(expected))

    def cost(log_temperature: float) -> float:
        scaled = log_softmax(logits.astype(np.float64) / math.exp(log_temperature))
        return float(-scaled[rows, expected].sum()) + log_temperature**2 / (2 * SPREAD**2)

    return math.exp(_least(cost, math.log(SMALLEST), math.log(LARGEST)))


def match(logits: NDArray[Any], parent: NDArray[Any], parent_temperature: float) -> float:
    """Return the temperature at which logits, N x classes, give nearly the parent's probabilities.

    `parent` are the logits of the network that it was made from for the same images.
    """
    if not len(logits):
        return parent_temperature
    wanted = np.exp(log_softmax(parent.astype(np.float64) / parent_temperature))

    def cost(log_temperature: float) -> float:
        scaled = log_softmax(logits.astype(np.float64) / math.exp(log_temperature))
        return float(-(wanted * scaled).sum())

    return math.exp(_least(cost, -math.log(LARGEST), math.log(LARGEST)))


def rejection(logits: NDArray[Any], labels: ArrayLike, temperature: float, threshold: float) -> Rejection:
    """Return what is answered, and how well, if answers less probable than `threshold` are rejected."""
    probabilities = np.exp(log_softmax(logits.astype(np.float64) / temperature)).max(axis=1)
    answered = probabilities >= threshold
    right = logits.argmax(axis=1) == np.asarray(labels)
    accuracy = float(100 * right[answered].mean()) if answered.any() else None
    return Rejection(threshold, float(100 * answered.mean()), accuracy)


def reject(
    bundle: Bundle, variant: str, logits: NDArray[Any], labels: ArrayLike, threshold: float
) -> Rejection:
    """Keep the threshold in the bundle, and return what it means for these logits of the variant.

    Raises:
        UsageError: the threshold is no probability.
        MachineError: the bundle may not be written.
    """
    known = replace(probabilities.read(bundle), reject_below=probabilities.checked_threshold(threshold))
    with bundle.writing() as writer:
        writer.put(probabilities.NAME, known.encode())
        writer.commit("evaluate")
        card.refresh(writer)
    return rejection(logits, labels, known.temperature(variant), threshold)


def _least(cost: Callable[[float], float], lowest: float, highest: float) -> float:
    """Return where `cost` is least between the two: the best of a grid, then golden sections around it."""
    grid = np.linspace(lowest, highest, 41)
    best = int(np.argmin([cost(point) for point in grid.tolist()]))
    low, high = float(grid[max(0, best - 1)]), float(grid[min(len(grid) - 1, best + 1)])
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(STEPS):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if cost(left) <= cost(right):
            high = right
        else:
            low = left
    return (low + high) / 2
