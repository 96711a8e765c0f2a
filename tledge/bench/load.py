"""The load generator: issues queries, records a time stamp after each stage, and computes nothing meanwhile.

The rules are those of MLPerf Inference (https://github.com/mlcommons/inference_policies, "inference_rules"):
a fixed seed draws the images with replacement, a run has a minimum duration and a minimum number of queries,
and a percentile is one of the latencies that were measured. It is not an MLPerf result.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Stamps = NDArray[np.int64]

# A query is given the position of its image, and returns the answer's class index and the time
# (time.perf_counter_ns) when each of its stages ended.
Query = Callable[[int], tuple[int, Sequence[int]]]

MIN_QUERIES = 1024  # MLPerf's; P99 then stands on 10 queries, P90 on 102
LONGEST = 10  # a run ends after this many times its duration, however few queries it made
WARM_UP_SECONDS = 0.5
WARM_UP_QUERIES = 8
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}


@dataclass(frozen=True)
class Recording:
    """All queries of one run, in the order in which they were issued.

    `images` (N) are the positions of the images, `answers` (N) the class indices, `issued` (N) when each
    query was due, and `ended` (N x stages) when each of its stages ended; times in nanoseconds of
    time.perf_counter_ns.
    """

    images: Stamps
    answers: Stamps
    issued: Stamps
    ended: Stamps

    @property
    def latencies(self) -> NDArray[np.float64]:
        """Return how long each query took, from when it was due to its answer: N, in ms."""
        return (self.ended[:, -1] - self.issued) / 1e6

    @property
    def stages(self) -> NDArray[np.float64]:
        """Return how long each stage of each query took: N x stages, in ms."""
        return np.diff(self.ended, axis=1, prepend=self.issued[:, None]) / 1e6

    @property
    def seconds(self) -> float:
        """Return the time from the first query to the last answer."""
        return float(self.ended[-1, -1] - self.issued[0]) / 1e9


def single_stream(
    query: Query,
    images: int,
    *,
    duration: float,
    min_queries: int = MIN_QUERIES,
    seed: int = 0,
    warm_up: float = WARM_UP_SECONDS,
) -> Recording:
    """Issue one query after another, each as soon as the one before is answered: one person waiting.

    The run ends when it has lasted `duration` seconds and made `min_queries` queries, or in any case after
    ten times the duration: whether it made enough is for the caller to judge. Queries of the first `warm_up`
    seconds are not recorded.
    """
    order = np.random.default_rng(seed).integers(0, images, size=4096).tolist()
    _warm_up(query, order, warm_up)
    taken, answers, issued, ended = array("q"), array("q"), array("q"), array("q")
    # Arrays of integers grow without giving the garbage collector anything to look through.
    clock = time.perf_counter_ns
    stages = 0
    done = 0
    begun = clock()
    enough, latest = begun + int(duration * 1e9), begun + int(LONGEST * duration * 1e9)
    now = begun
    while (now < enough or done < min_queries) and now < latest:
        image = order[done % len(order)]
        start = clock()
        answer, stamps = query(image)
        taken.append(image)
        answers.append(answer)
        issued.append(start)
        ended.extend(stamps)
        stages = len(stamps)
        done += 1
        now = clock()
    columns = [np.frombuffer(column, dtype=np.int64) for column in (taken, answers, issued, ended)]
    return Recording(columns[0], columns[1], columns[2], columns[3].reshape(done, stages))


def _warm_up(query: Query, order: Sequence[int], seconds: float) -> None:
    until = time.perf_counter() + seconds
    done = 0
    while time.perf_counter() < until or done < WARM_UP_QUERIES:
        query(order[done % len(order)])
        done += 1


def percentile(values: NDArray[np.float64], fraction: float) -> float:
    """Return the percentile as MLPerf's LoadGen takes it: entry floor(n x fraction) of the sorted values.

    It is a latency that was measured, never one between two (loadgen/results.cc, ProcessLatencies).
    """
    ordered = np.sort(values)
    return float(ordered[min(int(len(ordered) * fraction), len(ordered) - 1)])


def summary(values: NDArray[np.float64]) -> dict[str, float]:
    """Return percentiles, maximum and mean of latencies under the names of the bench's JSON."""
    found = {name: percentile(values, fraction) for name, fraction in PERCENTILES.items()}
    return {**found, "max": float(values.max()), "mean": float(values.mean())}
