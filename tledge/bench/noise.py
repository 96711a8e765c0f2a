"""How steady this machine is by itself: work of known, equal size, timed again and again.

What the inference's latencies are held against: a machine whose own P99/P50 is 1.6 cannot show a network that
is steadier, and one whose speed moves between two looks at it cannot show a latency at all.
"""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tledge.bench.percentiles import percentile

SECONDS = 1.5
SMALLEST = 64  # samples: fewer have no P99
LONGEST_MS = 25.0  # of a piece, so that a look ends within two seconds: a grid takes one for each candidate
BLOCK = b"\0" * 65536


@dataclass(frozen=True)
class Noise:
    """The machine's own noise: P50 and P99 of the same piece of work, in ms, done `samples` times.

    `blocks` is the size of the piece, so that a later look does the same.
    """

    blocks: int
    p50: float
    p99: float
    samples: int

    @property
    def ratio(self) -> float:
        """Return P99/P50."""
        return self.p99 / self.p50


def calibrate(milliseconds: float) -> int:
    """Return how many blocks of work take about `milliseconds`, at most `LONGEST_MS`, on one core here."""
    _hash(16)
    started = time.perf_counter()
    _hash(64)
    one = (time.perf_counter() - started) / 64
    return max(1, round(min(milliseconds, LONGEST_MS) / 1e3 / one))


def measure(blocks: int, threads: int, seconds: float = SECONDS) -> Noise:
    """Do `blocks` of work on each of `threads` threads at once, for `seconds`, and return how it varied.

    As with an inference, the slowest thread counts. The work is SHA-256 of zeros: its time does not depend on
    the data, it needs no memory, and Python lets other threads run meanwhile.
    """
    times: list[float] = []
    with ThreadPoolExecutor(threads) as pool:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until or len(times) < SMALLEST:
            started = time.perf_counter()
            others = [pool.submit(_hash, blocks) for _ in range(threads - 1)]
            _hash(blocks)
            for other in others:
                other.result()
            times.append((time.perf_counter() - started) * 1e3)
    values = np.array(times)
    return Noise(blocks, percentile(values, 0.5), percentile(values, 0.99), len(times))


def _hash(blocks: int) -> None:
    digest = hashlib.sha256()
    for _ in range(blocks):
        digest.update(BLOCK)
