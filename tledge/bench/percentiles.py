"""Percentiles as MLPerf takes them: a latency that was measured, and an estimate that will hold.

The rules are those of LoadGen (https://github.com/mlcommons/inference, loadgen/results.cc and
early_stopping.cc); tests/bench/golden holds what LoadGen itself said of recorded runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Latencies = NDArray[np.float64]

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
CONFIDENCE = 0.99  # of early stopping


def percentile(values: Latencies, fraction: float) -> float:
    """Return the percentile as MLPerf's LoadGen takes it: entry floor(n x fraction) of the sorted values.

    It is a latency that was measured, never one between two (loadgen/results.cc, ProcessLatencies).
    """
    ordered = np.sort(values)
    return float(ordered[min(int(len(ordered) * fraction), len(ordered) - 1)])


def summary(values: Latencies) -> dict[str, float]:
    """Return percentiles, maximum and mean of latencies under the names of the bench's JSON."""
    found = {name: percentile(values, fraction) for name, fraction in PERCENTILES.items()}
    return {**found, "max": float(values.max()), "mean": float(values.mean())}


def allowed_over(queries: int, fraction: float) -> int:
    """Return how many of so many queries may be over a bound that `fraction` of all queries is to keep.

    It is the largest number t for which t or fewer are over with a probability below 1 % when the true share
    of queries over the bound is 1 - fraction: after a run with t or fewer, the bound holds with 99 %
    confidence. -1: too few queries to say so even if none was over.
    """
    over = 1 - fraction
    k = np.arange(1, min(queries, int(queries * over) + 1) + 1)
    # The logarithms of the binomial distribution's terms, each from the one before.
    steps = np.log((queries - k + 1) / k) + math.log(over / fraction)
    terms = np.concatenate([[0.0], np.cumsum(steps)]) + queries * math.log(fraction)
    # "or fewer" has a probability that rises with t.
    return int(np.searchsorted(np.cumsum(np.exp(terms)), 1 - CONFIDENCE, side="left")) - 1


def estimate(values: Latencies, fraction: float) -> float | None:
    """Return LoadGen's early-stopping estimate of a percentile, None where the run is too short for one.

    It is the latency that only `allowed_over` - 1 were above: the fewer queries, the further out. A run to be
    judged by P90 needs 64 queries, by P99 662, by P99.9 6636.
    """
    allowed = allowed_over(len(values), fraction)
    return float(np.sort(values)[len(values) - allowed]) if allowed >= 1 else None


def estimates(values: Latencies) -> dict[str, float | None]:
    """Return the early-stopping estimate of each percentile of the bench's JSON."""
    return {name: estimate(values, fraction) for name, fraction in PERCENTILES.items()}


@dataclass(frozen=True)
class Budget:
    """A bound, in ms, that a share of the queries (`fraction`, such as 0.99) is to keep."""

    milliseconds: float
    fraction: float

    def judge(self, values: Latencies) -> dict[str, float | int | bool]:
        """Return the bound, what was measured, and whether it held with 99 % confidence.

        As in LoadGen's server scenario: the percentile itself is within the bound, and so few queries were
        over it that chance alone does not explain it.
        """
        over = int((values > self.milliseconds).sum())
        allowed = allowed_over(len(values), self.fraction)
        found = percentile(values, self.fraction)
        return {
            "ms": self.milliseconds,
            "percentile": round(self.fraction * 100, 6),
            "measured_ms": found,
            "over": over,
            "allowed_over": max(allowed, 0),
            # So many, none of them over, are the fewest that say anything of this share.
            "queries_needed": math.ceil(math.log(1 - CONFIDENCE) / math.log(self.fraction)),
            "held": found <= self.milliseconds and over <= allowed,
        }
