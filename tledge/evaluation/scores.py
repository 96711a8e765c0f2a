"""How good a stage is on labelled images: top-1 with its interval, and top-5."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tledge.errors import InputError

Z95 = 1.959963984540054  # the normal distribution's 97.5 % quantile: 95 % between both ends


@dataclass(frozen=True)
class Scores:
    """Percent (0 to 100) of `n` images; `top1_low` and `top1_high` are the ends of the 95 % interval."""

    n: int
    top1: float
    top1_low: float
    top1_high: float
    top5: float


def score(logits: NDArray[Any], labels: ArrayLike) -> Scores:
    """Return the scores of logits, N x classes, against labels, N integers.

    Of equal logits the class that comes first counts as the answer. Up to five classes, top-5 is 100.

    Raises:
        InputError: there are no images, shapes do not fit, or a logit is not finite.
    """
    expected = check(logits, labels)
    ranks = rank(logits, expected)
    right = int((ranks == 0).sum())
    low, high = wilson(right, len(expected))
    percent = 100.0 / len(expected)
    return Scores(len(expected), right * percent, 100 * low, 100 * high, int((ranks < 5).sum()) * percent)


def rank(logits: NDArray[Any], labels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return for each image how many classes stand before the right one: 0 is a right answer."""
    own = logits[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(logits.shape[1])[None, :] < labels[:, None]
    return np.asarray(((logits > own) | ((logits == own) & earlier)).sum(axis=1))


def wilson(successes: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Return the score interval of a proportion, 0 to 1 (E. B. Wilson, JASA 22, 1927, 209-212).

    It holds its level near 0 and 1 and for few images, where the plain normal interval is of width 0
    (L. D. Brown, T. T. Cai, A. DasGupta, Statistical Science 16, 2001, 101-133).
    """
    share = successes / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)
    # At the ends the interval touches 0 or 1; rounding must not push it past, nor inside of the share.
    return (0.0 if successes == 0 else min(low, share)), (1.0 if successes == n else max(high, share))


def check(logits: NDArray[Any], labels: ArrayLike) -> NDArray[np.intp]:
    """Return the labels as an array after checking that they fit the logits; InputError where they do not."""
    expected = np.asarray(labels, np.intp)
    if logits.ndim != 2 or expected.shape != logits.shape[:1] or not len(logits):
        raise InputError(f"{len(expected)} labels do not fit logits of shape {logits.shape}")
    bad = int((~np.isfinite(logits).all(axis=1)).sum())
    if bad:
        raise InputError(
            f"the network's answers for {bad} of {len(logits)} images are not finite numbers",
            hint="The graph overflows or divides by zero (half precision often does): use another variant.",
        )
    if expected.min() < 0 or expected.max() >= logits.shape[1]:
        raise InputError(f"a label is outside of the {logits.shape[1]} classes that the network knows")
    return expected
