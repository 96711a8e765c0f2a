"""The counts of a run's latencies: nothing is lost, and each latency is told to within 1 %."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tledge.bench.histogram import LONGEST_MS, SHORTEST_MS, histogram, read
from tledge.bench.percentiles import percentile

SAMPLES = st.lists(st.floats(1e-3, 1e5), min_size=1, max_size=300).map(np.array)


@given(SAMPLES, st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_a_percentile_can_be_read_from_it_to_1_percent(latencies, fraction):
    found = histogram(latencies)
    sides = found.edges
    middles = np.repeat(np.sqrt(sides[:-1] * sides[1:]), found.counts)
    assert sum(found.counts) == len(latencies)
    assert found.counts[0] > 0 < found.counts[-1]
    assert percentile(middles, fraction) == pytest.approx(percentile(latencies, fraction), rel=0.01)
    assert read(json.loads(json.dumps(found.as_dict()))) == found


@given(SAMPLES, st.integers(1, 7))
def test_bins_that_are_put_together_lose_nothing_and_lie_alike(latencies, times):
    found = histogram(latencies).coarser(times)
    sides = found.edges
    assert sum(found.counts) == len(latencies)
    assert sides[0] <= latencies.min() * (1 + 1e-9)
    assert sides[-1] >= latencies.max() * (1 - 1e-9)
    alone = histogram(latencies[:1]).coarser(times)
    assert found.counts[alone.first - found.first] > 0


def test_it_stays_small_whatever_comes():
    found = histogram(np.array([0.0, 1e-9, 5.0, 1e12]))
    assert len(found.counts) < 1200
    assert sum(found.counts) == 4
    assert found.edges[0] <= SHORTEST_MS
    assert found.edges[-1] >= LONGEST_MS


@pytest.mark.parametrize(
    "change",
    [
        {"growth": 1.0},
        {"growth": float("nan")},
        {"growth": -2},
        {"counts": []},
        {"counts": [0, 0]},
        {"counts": [1, -1, 2]},
        {"counts": [1] * 20_000},
        {"counts": "<script>"},
        {"first": 1 << 60},
        {"first": None},
    ],
)
def test_what_is_none_is_refused(change):
    good = histogram(np.array([1.0, 2.0])).as_dict()
    with pytest.raises((ValueError, TypeError)):
        read(good | change)
