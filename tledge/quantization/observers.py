"""What one pass over the images keeps of a tensor: extremes, moments, and a histogram that widens exactly.

Bins are as wide as a power of two and lie at its multiples. A value beyond the last bin doubles the width:
pairs of bins become one, and no count is ever moved to a neighbour. The end depends only on the largest
value, so that order, batches and threads do not change it, and two histograms add up exactly. Memory is
32 KB a tensor whatever the number of images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tledge.errors import InputError

BINS = 2048  # on each side of zero: at least 8 in each of the 128 steps that the largest value is cut into
CHUNK = 65536  # elements that are binned at once: what the second-level cache holds
SMALLEST = -126  # the exponent of the smallest normal float32: finer bins have no meaning


@dataclass
class Observer:
    """What is known of one tensor.

    `counts[i]` counts the values in [(i - BINS) w, (i - BINS + 1) w), w = 2**exponent.
    `total` and `squares` are sums of values and of their squares, added batch by batch.
    """

    name: str
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2 * BINS, np.int64))
    exponent: int = SMALLEST
    minimum: float = math.inf
    maximum: float = -math.inf
    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    @property
    def width(self) -> float:
        """Return the width of a bin."""
        return math.ldexp(1.0, self.exponent)

    @property
    def edges(self) -> NDArray[np.float64]:
        """Return the 2 * BINS + 1 edges of the bins."""
        return np.arange(-BINS, BINS + 1).astype(np.float64) * self.width

    def observe(self, values: NDArray[np.float32]) -> None:
        """Count the values of one batch.

        Raises:
            InputError: a value is NaN or infinite; the tensor is named.
        """
        flat = np.ascontiguousarray(values, np.float32).reshape(-1)
        if flat.size == 0:
            return
        low, high = float(flat.min()), float(flat.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            what = "NaN" if math.isnan(low) or math.isnan(high) else "an infinite value"
            raise InputError(
                f"the float network makes {what} in the tensor {self.name!r}",
                hint="It is broken before calibration: check its weights, and that the spec fits it.",
            )
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self._widen(_exponent(max(-self.minimum, self.maximum)))
        self.count += flat.size
        inverse, floor = np.float32(math.ldexp(1.0, -self.exponent)), np.empty(CHUNK, np.float32)
        index = np.empty(CHUNK, np.intp)
        for start in range(0, flat.size, CHUNK):
            part = flat[start : start + CHUNK]
            below, place = floor[: part.size], index[: part.size]
            # Each step is exact in float32: a power of two, a floor, a sum of small integers. Only a value
            # below 1e-45 bins vanishes, and counts as zero.
            np.multiply(part, inverse, out=below)
            np.floor(below, out=below)
            np.add(below, np.float32(BINS), out=below)
            np.copyto(place, below, casting="unsafe")
            self.counts += np.bincount(place, minlength=2 * BINS)
            self.total += float(part.sum(dtype=np.float64))
            self.squares += float(np.dot(part, part))

    def merge(self, other: Observer) -> None:
        """Add what `other` counted: the same histogram as if both had been one."""
        finer = Observer(other.name, other.counts.copy(), other.exponent)
        exponent = max(self.exponent, other.exponent)
        self._widen(exponent)
        finer._widen(exponent)
        self.counts += finer.counts
        self.minimum, self.maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)
        self.count += other.count
        self.total += other.total
        self.squares += other.squares

    def _widen(self, exponent: int) -> None:
        while self.exponent < exponent:
            if not self.counts.any():
                self.exponent = exponent
                return
            # BINS is even, so that pairs of bins never lie across zero.
            paired = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros_like(self.counts)
            self.counts[BINS // 2 : BINS // 2 + BINS] = paired
            self.exponent += 1


def _exponent(largest: float) -> int:
    """Return the smallest bin exponent whose histogram holds a value of magnitude `largest`."""
    if largest == 0.0:
        return SMALLEST
    # largest < 2**power; where it is a power of two itself, it needs the next bin: bins are half open.
    _, power = math.frexp(largest)
    return max(power - int(math.log2(BINS)), SMALLEST)
