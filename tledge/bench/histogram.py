"""The whole distribution of a run in a few hundred counts, each latency told to within 1 %.

Bins are as wide as 2 % of where they lie: bin k holds latencies from `GROWTH` ** k to `GROWTH` ** (k + 1) ms.
So a tail a hundred times as slow as the rest costs as many bins as there are from 1 to 100 ms, which is 233.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

GROWTH = 1.02
SHORTEST_MS, LONGEST_MS = 1e-4, 1e6  # what is beyond counts in the last bin: there are never more than 1164
MOST_BINS = 10_000  # of a file that somebody gives


@dataclass(frozen=True)
class Histogram:
    """Counts of latencies: the first is of those from `growth` ** `first` ms to `growth` ** (`first` + 1)."""

    growth: float
    first: int
    counts: tuple[int, ...]

    @property
    def edges(self) -> NDArray[np.float64]:
        """Return the edges of the bins in ms, one more than there are counts."""
        return np.power(self.growth, self.first + np.arange(len(self.counts) + 1))

    def coarser(self, times: int) -> Histogram:
        """Return it with so many bins in one; bins lie alike in all that are made so."""
        first = self.first // times
        padded = (0,) * (self.first - first * times) + self.counts
        summed = tuple(sum(padded[at : at + times]) for at in range(0, len(padded), times))
        return Histogram(self.growth**times, first, summed)

    def as_dict(self) -> dict[str, Any]:
        """Return it as in the bench's JSON."""
        return asdict(self)


def histogram(latencies: NDArray[np.float64]) -> Histogram:
    """Return the counts of latencies in ms."""
    held = np.clip(latencies, SHORTEST_MS, LONGEST_MS)
    bins = np.floor(np.log(held) / math.log(GROWTH)).astype(int)
    first = int(bins.min())
    return Histogram(GROWTH, first, tuple(np.bincount(bins - first).tolist()))


def read(found: Mapping[str, Any]) -> Histogram:
    """Return the histogram of a bench's JSON. ValueError, KeyError or TypeError: it is none."""
    growth, first, counts = float(found["growth"]), int(found["first"]), tuple(map(int, found["counts"]))
    if not 1.001 <= growth <= 10 or not 0 < len(counts) <= MOST_BINS or min(counts) < 0 or not sum(counts):
        raise ValueError("a histogram of latencies has bins that grow, and counts")
    result = Histogram(growth, first, counts)
    if max(abs(first), abs(first + len(counts))) * math.log(growth) > 50:
        raise ValueError("a histogram of latencies lies beyond any latency")
    return result
