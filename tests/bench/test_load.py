from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tledge.bench import load
from tledge.bench.load import PERCENTILES, Recording, percentile, single_stream, summary


class Clock:
    """A clock that only moves when a fake backend says that it worked."""

    def __init__(self) -> None:
        self.now = 0

    def work(self, milliseconds: float) -> int:
        self.now += int(milliseconds * 1e6)
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    fake = SimpleNamespace(perf_counter_ns=lambda: clock.now, perf_counter=lambda: clock.now / 1e9)
    monkeypatch.setattr(load, "time", fake)
    return clock


def spin(milliseconds: float) -> int:
    """Burn real time and return when it ended."""
    until = time.perf_counter_ns() + int(milliseconds * 1e6)
    while (now := time.perf_counter_ns()) < until:
        pass
    return now


def test_a_backend_of_10_ms_is_reported_as_10_ms(clock):
    recording = single_stream(lambda image: (0, [clock.work(10)]), 4, duration=10)
    assert len(recording.images) == 1024
    assert summary(recording.latencies) == dict.fromkeys([*PERCENTILES, "max", "mean"], 10.0)
    assert recording.seconds == pytest.approx(10.24)


@pytest.mark.parametrize(("milliseconds", "queries"), [(0.2, 200), (5, 20)])
def test_in_real_time_the_harness_adds_next_to_nothing(milliseconds, queries):
    spent = []

    def query(image: int) -> tuple[int, list[int]]:
        started = time.perf_counter_ns()
        ended = spin(milliseconds)
        spent.append((ended - started) / 1e6)
        return 0, [ended]

    recording = single_stream(query, 4, duration=0.1, min_queries=queries, warm_up=0)
    own = recording.latencies - spent[-len(recording.images) :]
    assert np.median(own) < 0.01


def test_a_backend_that_stalls_1_in_100_shows_in_p99(clock):
    done = 0

    def query(image: int) -> tuple[int, list[int]]:
        nonlocal done
        done += 1
        first_recorded = load.WARM_UP_QUERIES + 1
        return 0, [clock.work(50 if done % 100 == first_recorded else 5)]

    times = summary(single_stream(query, 4, duration=10, warm_up=0).latencies)
    assert (times["p95"], times["p99"], times["max"]) == (5, 50, 50)


def test_stages_are_told_apart(clock):
    def query(image: int) -> tuple[int, list[int]]:
        return 0, [clock.work(1), clock.work(3), clock.work(2)]

    recording = single_stream(query, 4, duration=1)
    assert np.unique(recording.stages, axis=0).tolist() == [[1, 3, 2]]
    assert np.unique(recording.latencies).tolist() == [6]


def test_a_run_lasts_its_duration_and_makes_its_queries(clock):
    assert single_stream(lambda image: (0, [clock.work(0.1)]), 4, duration=1).seconds == pytest.approx(1)
    assert len(single_stream(lambda image: (0, [clock.work(5)]), 4, duration=1).images) == 1024


def test_a_run_ends_after_ten_times_its_duration(clock):
    assert len(single_stream(lambda image: (0, [clock.work(20)]), 4, duration=0.1).images) == 50


def test_a_seed_draws_the_same_images_and_all_are_drawn(clock):
    def images(seed: int) -> list[int]:
        recording = single_stream(lambda image: (image, [clock.work(1)]), 8, duration=1, seed=seed)
        assert recording.answers.tolist() == recording.images.tolist()
        return recording.images.tolist()

    assert images(1) == images(1)
    assert images(1) != images(2)
    assert set(images(1)) == set(range(8))


def test_the_warm_up_is_not_recorded(clock):
    seen = []

    def query(image: int) -> tuple[int, list[int]]:
        seen.append(image)
        return 0, [clock.work(500 if len(seen) <= 5 else 1)]

    recording = single_stream(query, 4, duration=1)
    assert recording.latencies.max() == 1
    assert len(seen) == len(recording.images) + load.WARM_UP_QUERIES


def test_a_backend_that_fails_in_mid_run_is_not_hidden(clock):
    def query(image: int) -> tuple[int, list[int]]:
        if clock.work(100) > 2e9:
            raise RuntimeError("device lost")
        return 0, [clock.now]

    with pytest.raises(RuntimeError, match="device lost"):
        single_stream(query, 4, duration=10)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.sampled_from(list(PERCENTILES.values())))
def test_a_percentile_was_measured_and_that_many_are_below(values, fraction):
    found = percentile(np.array(values), fraction)
    assert found in values
    assert sum(v < found for v in values) <= fraction * len(values)
    assert sum(v <= found for v in values) > fraction * len(values) - 1e-9


def test_percentiles_are_loadgens():
    values = np.arange(1024, dtype=float)[::-1]
    assert [percentile(values, p) for p in (0.5, 0.9, 0.95, 0.99, 0.999)] == [512, 921, 972, 1013, 1022]


def test_latency_counts_from_when_the_query_was_due():
    recording = Recording(
        images=np.array([0, 1]),
        answers=np.array([0, 0]),
        issued=np.array([0, 5_000_000]),
        ended=np.array([[1_000_000, 4_000_000], [9_000_000, 12_000_000]]),
    )
    assert recording.latencies.tolist() == [4, 7]
    assert recording.stages.tolist() == [[1, 3], [4, 3]]
    assert recording.seconds == pytest.approx(0.012)
