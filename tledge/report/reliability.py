"""Is a stage right as often as it says? Reliability bins and the expected calibration error.

Naeini, Cooper and Hauskrecht: Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015;
fifteen bins of equal width as in Guo et al.: On Calibration of Modern Neural Networks, ICML 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tledge.report.evidence import Answers, Indices

BINS = 15


@dataclass(frozen=True)
class Bin:
    """Images whose answer has a probability in (low, high]: their number, its mean, the share right (0-1)."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Reliability:
    """The bins, the expected calibration error and the mean confidence less the accuracy, in points."""

    bins: tuple[Bin, ...]
    error: float
    overconfidence: float


def reliability(answers: Answers, truth: Indices) -> Reliability:
    """Sort the answers into `BINS` bins of equal width by their probability and compare with the truth."""
    right = answers.best == truth
    confidence = answers.confidence
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    bins = []
    error = 0.0
    for index in range(BINS):
        inside = place == index
        count = int(inside.sum())
        mean = float(confidence[inside].mean()) if count else None
        share = float(right[inside].mean()) if count else None
        if mean is not None and share is not None:
            error += count / len(truth) * abs(mean - share)
        bins.append(Bin(index / BINS, (index + 1) / BINS, count, mean, share))
    over = float(confidence.mean() - right.mean())
    return Reliability(tuple(bins), 100 * error, 100 * over)
