from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tledge.bench.percentiles import (
    PERCENTILES,
    Budget,
    allowed_over,
    estimate,
    estimates,
    percentile,
    summary,
)

RUNS = json.loads((Path(__file__).parent / "golden" / "loadgen.json").read_text())["runs"]
SERVER = [name for name in RUNS if name.startswith("server")]


@pytest.mark.parametrize("name", RUNS)
def test_percentiles_are_those_that_loadgen_gave(name):
    latencies = np.array(RUNS[name]["latencies_ns"], float)
    assert len(RUNS[name]["percentiles_ns"]) == 6
    for percent, said in RUNS[name]["percentiles_ns"].items():
        assert percentile(latencies, float(percent) / 100) == said


@pytest.mark.parametrize("name", [name for name in RUNS if name not in SERVER])
def test_early_stopping_estimates_are_those_that_loadgen_gave(name):
    run = RUNS[name]
    latencies = np.array(run["latencies_ns"], float)
    assert run["estimates_ns"]
    for percent, said in run["estimates_ns"].items():
        assert estimate(latencies, float(percent) / 100) == said
    headline = 0.99 if name.startswith("multi") else 0.9
    assert allowed_over(len(latencies), headline) - 1 == run["discarded"]
    assert allowed_over(run["needed"], headline) == 1
    assert allowed_over(run["needed"] - 1, headline) < 1
    if "99.0" not in run["estimates_ns"]:
        assert estimate(latencies, 0.99) is None


@pytest.mark.parametrize("name", SERVER)
def test_a_bound_holds_where_loadgen_says_so(name):
    run = RUNS[name]
    bound = run["settings"]["server_target_latency_ns"]
    latencies = np.array(run["latencies_ns"], float)
    found = Budget(bound, 0.99).judge(latencies)
    assert found["held"] is run["early_stopping"] is run["valid"] is name.endswith("held")
    if run["more_needed"]:
        enough = len(latencies) + run["more_needed"]
        assert allowed_over(enough, 0.99) == found["over"]
        assert allowed_over(enough - 1, 0.99) < found["over"]


@pytest.mark.parametrize("queries", [1, 63, 64, 459, 662, 1024, 20_000, 1_000_000])
@pytest.mark.parametrize("fraction", [0.5, 0.9, 0.99, 0.999])
def test_what_is_allowed_is_the_binomial_distributions(queries, fraction):
    def up_to(t: int) -> float:
        logs = [
            math.lgamma(queries + 1)
            - math.lgamma(k + 1)
            - math.lgamma(queries - k + 1)
            + k * math.log(1 - fraction)
            + (queries - k) * math.log(fraction)
            for k in range(max(0, t - 20_000), t + 1)
        ]
        return math.fsum(map(math.exp, logs))

    allowed = allowed_over(queries, fraction)
    assert allowed < 0 or up_to(allowed) < 0.01
    assert up_to(allowed + 1) >= 0.01


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.sampled_from(list(PERCENTILES.values())))
def test_a_percentile_was_measured_and_that_many_are_below(values, fraction):
    found = percentile(np.array(values), fraction)
    assert found in values
    assert sum(v < found for v in values) <= fraction * len(values)
    assert sum(v <= found for v in values) > fraction * len(values) - 1e-9


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.sampled_from(list(PERCENTILES.values())))
def test_an_estimate_is_no_lower_than_the_percentile(values, fraction):
    found = estimate(np.array(values), fraction)
    assert found is None or (found in values and found >= percentile(np.array(values), fraction))


def test_percentiles_are_entries_of_the_sorted_latencies():
    values = np.arange(1024, dtype=float)[::-1]
    assert [percentile(values, p) for p in (0.5, 0.9, 0.95, 0.99, 0.999)] == [512, 921, 972, 1013, 1022]
    assert list(summary(values)) == ["p50", "p90", "p95", "p99", "p99.9", "max", "mean"]
    assert estimates(values)["p99.9"] is None


def test_a_budget_needs_the_percentile_and_enough_queries():
    fast = np.full(1000, 5.0)
    held = Budget(10, 0.99).judge(fast)
    assert held == {
        "ms": 10,
        "percentile": 99.0,
        "measured_ms": 5.0,
        "over": 0,
        "allowed_over": allowed_over(1000, 0.99),
        "queries_needed": 459,
        "held": True,
    }
    assert not Budget(10, 0.99).judge(fast[:458])["held"]  # too few to say anything of P99
    assert Budget(10, 0.99).judge(fast[:459])["held"]
    assert not Budget(4, 0.99).judge(fast)["held"]
    some_over = np.concatenate([fast, np.full(6, 50.0)])
    assert percentile(some_over, 0.99) == 5.0
    assert not Budget(10, 0.99).judge(some_over)["held"]  # might be chance
    assert Budget(10, 0.9).judge(some_over)["held"]
