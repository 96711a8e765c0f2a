from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tledge.bench import comparison, table
from tledge.bench.load import Recording
from tledge.errors import InputError


def recording(latencies: np.ndarray, turns: np.ndarray | None = None) -> Recording:
    """Return a run of queries that took so long, in ms."""
    n = len(latencies)
    issued = np.arange(n) * 10_000_000
    return Recording(
        images=np.zeros((n, 1), int),
        answers=np.zeros((n, 1), int),
        issued=issued,
        started=issued,
        ended=(issued + latencies * 1e6).astype(int)[:, None],
        turns=np.zeros(n, int) if turns is None else turns,
    )


def made(seed: int, middle: float, n: int = 2000) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(np.log(middle), 0.1, n)


def test_an_interval_holds_the_figure_and_narrows_with_queries():
    few, many = (recording(made(0, 5.0, n)) for n in (400, 10_000))
    for name in comparison.FIGURES:
        found = comparison.intervals(many)[name]
        assert found["low"] <= comparison._figure(many, name) <= found["high"]
    wide, narrow = (comparison.intervals(r)["p50"] for r in (few, many))
    assert narrow["high"] - narrow["low"] < (wide["high"] - wide["low"]) / 2
    assert comparison.intervals(few) == comparison.intervals(few)


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    hits = 0
    for seed in range(60):
        found = comparison.intervals(recording(made(seed, 5.0, 1000)))["p50"]
        hits += found["low"] <= 5.0 <= found["high"]
    assert 50 <= hits <= 60


def test_a_plain_draw_would_be_too_sure_where_neighbours_are_alike():
    """Turns that are each slow or fast as a whole: only as many independent figures as turns."""
    turns = np.repeat(np.arange(20), 100)
    slow = np.random.default_rng(1).normal(0, 0.5, 20)[turns]
    found = comparison.intervals(recording(5 + slow, turns))["mean"]
    spread = 1.96 * 0.5 / np.sqrt(20)
    assert (found["high"] - found["low"]) / 2 == pytest.approx(spread, rel=0.4)


def test_what_moves_both_leaves_their_ratio():
    turns = np.repeat(np.arange(20), 100)
    drift = np.random.default_rng(1).lognormal(0, 0.3, 20)[turns]
    base, twice = recording(made(1, 4.0) * drift, turns), recording(made(2, 8.0) * drift, turns)
    (found,) = comparison.ratios([base, twice], ["a", "b"])
    assert (found["of"], found["to"], found["interleaved"]) == ("b", "a", True)
    mean = found["latency"]["mean"]
    assert mean["low"] < 2 < mean["high"]
    assert mean["high"] - mean["low"] < 0.1
    alone = comparison.intervals(base)["mean"]
    assert alone["high"] / alone["low"] > 1.1


def test_one_that_had_more_turns_is_compared_over_those_that_both_had():
    turns = np.repeat(np.arange(20), 100)
    base = recording(made(1, 4.0, 1200), turns[:1200])
    (found,) = comparison.ratios([base, recording(made(2, 4.0), turns)], ["a", "b"])
    assert found["latency"]["p50"]["low"] < 1 < found["latency"]["p50"]["high"]


def test_an_earlier_result_widens_the_interval_by_its_own():
    def document(middle: float, spread: float) -> dict:
        latency = dict.fromkeys(comparison.FIGURES, middle)
        interval = {"low": middle / spread, "high": middle * spread}
        return {
            "variant": "fp32",
            "backend": "onnxruntime",
            "threads": 1,
            "images_per_query": 1,
            "latency_ms": latency,
            "latency_interval_ms": dict.fromkeys(comparison.FIGURES, interval),
        }

    (found,) = comparison.against([document(6.0, 1.1)], [document(3.0, 1.1)], Path("x/old.json"))
    assert found["to"] == "fp32@onnxruntime, 1 threads (old.json)"
    assert found["machine"] is None, "neither says how fast the machine was"
    p50 = found["latency"]["p50"]
    assert p50["ratio"] == 2
    assert p50["high"] == pytest.approx(2 * 1.1 ** np.sqrt(2))
    assert p50["low"] == pytest.approx(2 / 1.1 ** np.sqrt(2))


def test_an_earlier_result_says_how_fast_the_machine_was_then():
    def document(milliseconds: float, blocks: int, threads: int = 1) -> dict:
        figures = dict.fromkeys(comparison.FIGURES, 3.0)
        look = {"blocks": blocks, "p50": milliseconds}
        return {
            "variant": "fp32",
            "backend": "onnxruntime",
            "threads": threads,
            "images_per_query": 1,
            "latency_ms": figures,
            "latency_interval_ms": {name: {"low": 2.9, "high": 3.1} for name in figures},
            "environment": {"noise": {"before": look, "after": look | {"p50": 1.5 * milliseconds}}},
        }

    now, then = document(2.4, 20), document(2.0, 20)
    (found,) = comparison.against([now], [then], Path("old.json"))
    assert found["machine"] == pytest.approx(1.2)
    assert "; plain work took 1.200 of its time then" in table._ratios([found])
    (found,) = comparison.against([document(4.8, 40)], [then], Path("old.json"))
    assert found["machine"] == pytest.approx(1.2), "it is the same work, in pieces of another size"
    (found,) = comparison.against([document(2.4, 20, threads=2)], [then], Path("old.json"))
    assert found["machine"] is None


def test_a_result_whose_latencies_make_no_sense_is_no_result(tmp_path):
    latency = dict.fromkeys(comparison.FIGURES, 3.0)
    interval = {name: {"low": 2.0, "high": 4.0} for name in comparison.FIGURES}
    good = {**dict.fromkeys((*comparison.WORDS, "variant", "backend", "threads"), "x")}
    good |= {"latency_ms": latency, "latency_interval_ms": interval}
    path = tmp_path / "earlier.json"
    path.write_text(json.dumps(good))
    assert comparison.read(path) == [good]
    for wrong in (0, -1, float("nan"), float("inf"), "3", None):
        path.write_text(json.dumps({**good, "latency_ms": {**latency, "p99": wrong}}))
        with pytest.raises(InputError, match="no result of a bench"):
            comparison.read(path)
