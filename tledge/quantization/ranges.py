"""From a histogram to the range that INT8 covers, by one of four methods.

All work on the same histogram, so that trying another method needs no second pass over the images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tledge.errors import InputError
from tledge.quantization.observers import BINS, Observer

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class Scheme:
    """How 8 bits are used: `symmetric` is -127 to 127 about zero (TensorRT), else 0 to 255, zero anywhere."""

    symmetric: bool

    @property
    def steps(self) -> int:
        """Return the number of steps between the largest value and zero (or the smallest value)."""
        return 127 if self.symmetric else 255


SYMMETRIC, ASYMMETRIC = Scheme(True), Scheme(False)


@dataclass(frozen=True)
class Range:
    """The values that are told apart; what lies outside becomes `low` or `high`. Zero is always inside."""

    low: float
    high: float

    @property
    def largest(self) -> float:
        """Return the largest magnitude."""
        return max(-self.low, self.high)


def find(observer: Observer, method: str, scheme: Scheme) -> Range:
    """Return the range of a tensor by a method of `METHODS`.

    Raises:
        InputError: nothing was observed, or there is no such method.
    """
    if observer.count == 0:
        raise InputError(
            f"no value of the tensor {observer.name!r} was seen", hint="Give images to calibrate with."
        )
    if method not in METHODS:
        raise InputError(f"no such way to find ranges: {method}", hint=f"Known: {', '.join(METHODS)}.")
    low, high = METHODS[method](observer, scheme)
    low, high = max(low, observer.minimum, -3e38), min(high, observer.maximum)
    return Range(min(low, 0.0), max(high, 0.0))


def minmax(observer: Observer, scheme: Scheme) -> tuple[float, float]:
    """Return the extremes: nothing is clipped."""
    return observer.minimum, observer.maximum


def percentile(share: float) -> Callable[[Observer, Scheme], tuple[float, float]]:
    """Return a method that keeps `share` per cent of the values (of both tails together)."""

    def method(observer: Observer, scheme: Scheme) -> tuple[float, float]:
        outside = (1 - share / 100) * observer.count
        edges = observer.edges
        if scheme.symmetric:
            high = float(np.searchsorted(np.cumsum(magnitudes(observer)), observer.count - outside) + 1)
            return -high * observer.width, high * observer.width
        sides = 2 if observer.minimum < 0 < observer.maximum else 1
        summed = np.cumsum(observer.counts)
        low = edges[np.searchsorted(summed, outside / sides, side="right")] if observer.minimum < 0 else 0.0
        top = edges[min(np.searchsorted(summed, observer.count - outside / sides) + 1, 2 * BINS)]
        return float(low), float(top) if observer.maximum > 0 else 0.0

    return method


def mse(observer: Observer, scheme: Scheme) -> tuple[float, float]:
    """Return the range of the least mean squared error between values and their 8-bit images.

    The end that reaches furthest is tried at each hundredth of its extreme; with a zero point then the other.
    """
    shrink = np.arange(100, 19, -1) / 100
    if scheme.symmetric:
        largest = max(-observer.minimum, observer.maximum)
        errors = [clip_error(observer, -largest * s, largest * s, largest * s / 127) for s in shrink]
        best = float(largest * shrink[int(np.argmin(errors))])
        return -best, best
    low, high = min(observer.minimum, 0.0), max(observer.maximum, 0.0)

    def trial(first: float, last: float) -> float:
        return clip_error(observer, first, last, (last - first) / 255)

    for _ in range(2):
        if high > 0:
            tops = max(observer.maximum, 0.0) * shrink
            high = float(tops[int(np.argmin([trial(low, top) for top in tops]))])
        if low < 0:
            bottoms = min(observer.minimum, 0.0) * shrink
            low = float(bottoms[int(np.argmin([trial(bottom, high) for bottom in bottoms]))])
    return low, high


def clip_error(observer: Observer, low: float, high: float, step: float) -> float:
    """Return the mean squared error of rounding to multiples of `step` between `low` and `high`.

    Values are taken at the middle of their bins, but for bin zero: it holds the exact zeros of a ReLU, which
    are rounded without error.
    """
    if step <= 0:
        return 0.0 if observer.minimum == observer.maximum == 0 else float("inf")
    used = np.flatnonzero(observer.counts)
    middle = (used - BINS + 0.5) * observer.width
    middle[used == BINS] = 0.0
    image = np.clip(np.round(middle / step), np.round(low / step), np.round(high / step)) * step
    return float(np.dot(observer.counts[used], (middle - image) ** 2) / observer.count)


def entropy(observer: Observer, scheme: Scheme) -> tuple[float, float]:
    """Return the threshold whose 8-bit histogram is nearest to the clipped one by relative entropy.

    After S. Migacz, "8-bit inference with TensorRT" (GTC 2017), on magnitudes; bin zero, which in a network
    with ReLU holds most of the values, is left out as it is there.
    """
    counts = magnitudes(observer).astype(np.float64)
    counts[0] = 0.0
    last = int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else 0
    levels = 128 if scheme.symmetric or observer.minimum < 0 else 256
    if last <= levels:
        return -last * observer.width, max(last, 1) * observer.width
    sizes = np.unique(np.linspace(levels, last, min(128, last - levels + 1)).round().astype(int))
    best = min(sizes, key=lambda size: divergence(counts, int(size), levels))
    return -float(best) * observer.width, float(best) * observer.width


def divergence(counts: Counts, size: int, levels: int) -> float:
    """Return KL(p, q): p the first `size` bins, the rest added to the last; q the same in `levels` levels."""
    p = counts[:size].copy()
    starts = (np.arange(levels) * size) // levels
    filled = p > 0
    sums, kinds = np.add.reduceat(p, starts), np.add.reduceat(filled.astype(np.float64), starts)
    level = np.repeat(sums / np.maximum(kinds, 1), np.diff(np.append(starts, size)))
    q = np.where(filled, level, 0.0)
    p[-1] += counts[size:].sum()
    if q.sum() == 0:
        return float("inf")
    p, q = p / p.sum(), q / q.sum()
    both = (p > 0) & (q > 0)
    lost = float(p[(p > 0) & (q == 0)].sum())
    # A level that p fills and q does not is infinitely far; it happens only to the last bin, and counts as
    # its share at the distance of one count in all.
    return float(np.sum(p[both] * np.log(p[both] / q[both]))) + lost * float(np.log(counts.sum()))


def magnitudes(observer: Observer) -> NDArray[np.int64]:
    """Return the counts of |value| in BINS bins from zero on."""
    folded: NDArray[np.int64] = observer.counts[BINS:] + observer.counts[:BINS][::-1]
    return folded


METHODS: dict[str, Callable[[Observer, Scheme], tuple[float, float]]] = {
    "minmax": minmax,
    "percentile-99.99": percentile(99.99),
    "percentile-99.999": percentile(99.999),
    "percentile-99.9999": percentile(99.9999),
    "mse": mse,
    "entropy": entropy,
}
