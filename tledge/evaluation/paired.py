"""Two stages on the same images, compared answer by answer.

The drop in top-1 is a difference of paired proportions: with b images that only the parent gets right and c
that only the child does, of n, it is (b - c) / n. Quantised networks differ on a handful of images, so the
bounds must hold when b and c are small or 0. They are Tango's score bounds (T. Tango, Equivalence test and
confidence interval for the difference in proportions for the paired-sample design, Statistics in Medicine 17,
1998, 891-908), among the methods that hold their level in small samples (M. W. Fagerland, S. Lydersen,
P. Laake, Recommended tests and confidence intervals for paired binomial proportions, Statistics in Medicine
33, 2014, 2850-2875). An exact test on b and c alone would say whether there is a drop, not how large it is at
least; the Wald bound has no width where b = c = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tledge.errors import InputError
from tledge.evaluation.scores import check

Z_ONE_SIDED = 1.6448536269514722  # the normal distribution's 95 % quantile


@dataclass(frozen=True)
class Comparison:
    """A child stage against its parent on the same `n` images.

    `agreement` is the percentage of images with the same answer, `flips` the indices of the others, in order;
    `kl` the mean Kullback-Leibler divergence of the child's probabilities from the parent's, in nats. `drop`
    is the loss of top-1 in points (percent of images; negative: a gain), `drop_low` and `drop_high` its
    one-sided 95 % bounds: the true drop is at least `drop_low` with 95 % confidence. `lost` and `gained`
    count the images that only the parent, and only the child, gets right.
    """

    n: int
    agreement: float
    flips: tuple[int, ...]
    kl: float
    drop: float
    drop_low: float
    drop_high: float
    lost: int
    gained: int


def compare(parent: NDArray[Any], child: NDArray[Any], labels: ArrayLike) -> Comparison:
    """Return how the child's logits differ from the parent's, both N x classes, on labelled images.

    Raises:
        InputError: the shapes differ, or a logit is not finite.
    """
    if parent.shape != child.shape:
        raise InputError(f"logits of shapes {parent.shape} and {child.shape} cannot be compared")
    expected = check(parent, labels)
    check(child, labels)
    before, after = parent.argmax(axis=1), child.argmax(axis=1)
    lost = int(((before == expected) & (after != expected)).sum())
    gained = int(((before != expected) & (after == expected)).sum())
    n = len(expected)
    flips = tuple(np.flatnonzero(before != after).tolist())
    low, high = tango(lost, gained, n)
    return Comparison(
        n=n,
        agreement=100.0 * (n - len(flips)) / n,
        flips=flips,
        kl=mean_kl(parent, child),
        drop=100.0 * (lost - gained) / n,
        drop_low=100 * low,
        drop_high=100 * high,
        lost=lost,
        gained=gained,
    )


def mean_kl(parent: NDArray[Any], child: NDArray[Any]) -> float:
    """Return the mean over images of KL(softmax(parent) || softmax(child)), in nats, 0 or more.

    Computed in float64 from log-softmaxes, so that no finite logit overflows.
    """
    p, q = log_softmax(parent), log_softmax(child)
    return max(0.0, float((np.exp(p) * (p - q)).sum(axis=1).mean()))


def log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return the logarithm of softmax along the last axis, in float64."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True)))


def tango(lost: int, gained: int, n: int, z: float = Z_ONE_SIDED) -> tuple[float, float]:
    """Return the bounds of (lost - gained) / n, -1 to 1, each at the confidence of the normal quantile `z`.

    A bound is the difference whose score statistic is z: found by bisection, the statistic being monotone.
    """
    if not 0 <= lost + gained <= n or min(lost, gained) < 0 or n < 1:
        raise ValueError(f"{lost} lost and {gained} gained of {n}")
    drop = (lost - gained) / n
    low = _bisect(lambda delta: statistic(lost, gained, n, delta) <= z, -1.0, drop)
    high = -_bisect(lambda delta: statistic(gained, lost, n, delta) <= z, -1.0, -drop)
    return low, high


def statistic(lost: int, gained: int, n: int, delta: float) -> float:
    """Return Tango's score statistic: how far, in standard errors under it, the data are above `delta`."""
    # The probability of "gained" that is likeliest when the difference is delta: equation (9) of the paper.
    a = 2 * n
    b = -lost - gained + (2 * n - lost + gained) * delta
    c = -gained * delta * (1 - delta)
    root = abs(b) if c == 0 else math.sqrt(max(0.0, b * b - 4 * a * c))  # b * b may underflow to 0
    likeliest = (root - b) / (2 * a)
    variance = n * (2 * likeliest + delta * (1 - delta))
    distance = lost - gained - n * delta
    if variance <= 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def _bisect(holds: Callable[[float], bool], outside: float, inside: float) -> float:
    """Return the edge between `outside`, where `holds` may be false, and `inside`, where it is true."""
    if holds(outside):
        return outside
    for _ in range(100):
        middle = (outside + inside) / 2
        if middle in (outside, inside):
            break
        outside, inside = (outside, middle) if holds(middle) else (middle, inside)
    return inside
