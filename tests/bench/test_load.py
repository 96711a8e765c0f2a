from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest

from tledge.bench import load
from tledge.bench.load import Recording, Rules, alone, in_turns
from tledge.bench.percentiles import PERCENTILES, summary


class Clock:
    """A clock that only moves when somebody says that it worked, or sleeps."""

    def __init__(self) -> None:
        self.now = 0

    def work(self, milliseconds: float) -> int:
        self.now += int(milliseconds * 1e6)
        return self.now

    def perf_counter_ns(self) -> int:
        self.now += 10  # looking takes time too, so that a loop that waits ends
        return self.now

    def answers(self, milliseconds: float):
        """Return a backend that takes so long."""
        return lambda images: ([0] * len(images), [self.work(milliseconds)])


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    fake = SimpleNamespace(
        perf_counter_ns=clock.perf_counter_ns,
        perf_counter=lambda: clock.perf_counter_ns() / 1e9,
        sleep=lambda seconds: clock.work(seconds * 1e3),
    )
    monkeypatch.setattr(load, "time", fake)
    monkeypatch.setattr(load, "SPIN_NS", 1000)  # its sleep ends in time
    return clock


def run(query, images=4, **rules) -> Recording:
    return alone(load.load(query, images, Rules(**{"duration": 1, "min_queries": 1024, **rules})))


def spin(milliseconds: float) -> int:
    """Burn real time and return when it ended."""
    until = time.perf_counter_ns() + int(milliseconds * 1e6)
    while (now := time.perf_counter_ns()) < until:
        pass
    return now


# --- the harness itself ---


def test_a_backend_of_10_ms_is_reported_as_10_ms(clock):
    recording = run(clock.answers(10), duration=10)
    assert len(recording.issued) == 1024
    assert summary(recording.latencies) == pytest.approx(dict.fromkeys([*PERCENTILES, "max", "mean"], 10))
    assert recording.seconds == pytest.approx(10.24, rel=1e-4)


def test_in_real_time_a_backend_of_10_ms_is_reported_within_1_percent():
    spent = []

    def query(images):
        started = time.perf_counter_ns()
        time.sleep(0.01)
        ended = time.perf_counter_ns()
        spent.append((ended - started) / 1e6)
        return [0], [ended]

    recording = run(query, duration=0.2, min_queries=20, warm_up=0)
    reported = recording.latencies / spent[-len(recording.issued) :]
    assert np.median(reported) == pytest.approx(1, rel=0.01)


def test_the_harness_itself_does_next_to_nothing_for_a_query():
    """In looks at the clock: `benchmarks/repeatability.py` holds microseconds against 1 % of 1 ms."""
    spent = []

    def query(images):
        started = time.perf_counter_ns()
        ended = spin(1)
        spent.append(ended - started)
        return [0], [ended]

    def looks(times: int = 300) -> list[int]:
        return [time.perf_counter_ns() for _ in range(times)]

    recording = run(query, duration=0.3, min_queries=200, warm_up=0)
    spent = spent[-len(recording.issued) :]
    # From one query to the next: all that the harness does, but for what the backend measured itself.
    # The lower quartiles: others on the machine interrupt the harness as they interrupt everybody.
    own = np.percentile(np.diff(recording.issued) - spent[:-1], 25)
    took = np.percentile([stamps[-1] - stamps[0] for stamps in (looks() for _ in range(100))], 25)
    assert own < took
    assert np.percentile(recording.latencies * 1e6 - spent, 25) < took


def test_a_backend_that_stalls_1_in_100_shows_in_p99(clock):
    done = 0

    def query(images):
        nonlocal done
        done += 1
        first_recorded = load.WARM_UP_QUERIES + 1
        return [0], [clock.work(50 if done % 100 == first_recorded else 5)]

    times = summary(run(query, duration=10, warm_up=0).latencies)
    assert (times["p95"], times["p99"], times["max"]) == pytest.approx((5, 50, 50), rel=1e-3)


def test_stages_are_told_apart(clock):
    recording = run(lambda images: ([0], [clock.work(1), clock.work(3), clock.work(2)]))
    assert np.unique(recording.stages.round(3), axis=0).tolist() == [[1, 3, 2]]
    assert np.unique(recording.latencies.round(3)).tolist() == [6]


# --- one query after another ---


def test_a_run_lasts_its_duration_and_makes_its_queries(clock):
    assert run(clock.answers(0.1)).seconds == pytest.approx(1, rel=1e-3)
    assert len(run(clock.answers(5)).issued) == 1024


def test_a_run_ends_after_ten_times_its_duration(clock):
    assert len(run(clock.answers(20), duration=0.1).issued) == 50


def test_a_query_has_as_many_images_as_asked_for(clock):
    recording = run(lambda images: (images, [clock.work(1)]), images=5, per_query=8)
    assert recording.images.shape == (1024, 8)
    assert (recording.images == recording.answers).all()
    assert set(recording.images.ravel().tolist()) == set(range(5))


def test_a_seed_draws_the_same_images_and_all_are_drawn(clock):
    def images(seed: int) -> list[list[int]]:
        return run(clock.answers(1), images=8, seed=seed).images.tolist()

    assert images(1) == images(1)
    assert images(1) != images(2)
    assert {image for (image,) in images(1)} == set(range(8))


def test_the_warm_up_is_not_recorded(clock):
    seen = []

    def query(images):
        seen.append(images)
        return [0], [clock.work(500 if len(seen) <= 5 else 1)]

    recording = run(query)
    assert recording.latencies.max() == pytest.approx(1, rel=1e-3)
    assert len(seen) == len(recording.issued) + load.WARM_UP_QUERIES


@pytest.mark.parametrize("rate", [None, 8.0])
def test_a_backend_that_fails_in_mid_run_loses_nothing_that_was_measured(clock, rate):
    def query(images):
        if clock.work(100) > 3e9:
            raise RuntimeError("device lost")
        return [0], [clock.now]

    recording = run(query, duration=10, rate=rate)
    assert str(recording.failure) == "device lost"
    assert len(recording.issued) == len(recording.latencies) > 10
    assert recording.latencies.min() > 99


def test_a_backend_that_never_answers_is_an_error(clock):
    def query(images):
        if clock.work(100) > 7e8:
            raise RuntimeError("device lost")
        return [0], [clock.now]

    with pytest.raises(RuntimeError, match="device lost"):
        run(query, duration=10)


# --- taking turns ---


def test_loads_take_turns_until_each_has_its_time_and_queries(clock):
    loads = [load.load(clock.answers(ms), 4, Rules(1, 200)) for ms in (10, 1)]
    slow, fast = in_turns(loads)
    assert (len(slow.issued), len(fast.issued)) == (200, pytest.approx(1000, abs=5))
    assert slow.seconds == pytest.approx(2, rel=0.02)
    assert fast.seconds == pytest.approx(1, rel=0.02)
    assert set(fast.latencies.round(3)) == {1.0}
    assert fast.turns.max() + 1 in (4, 5)
    assert (np.diff(fast.turns) >= 0).all()
    # In turn: the fast one's second turn comes after the slow one's first.
    assert fast.issued[fast.turns == 0].max() < slow.issued[slow.turns == 1].min()
    assert slow.issued[slow.turns == 1].min() < fast.issued[fast.turns == 1].min()


def test_the_first_query_of_a_turn_is_not_recorded(clock):
    last = []

    def query_of(name):
        def query(images):
            cold = last[-1:] != [name]
            last.append(name)
            return [0], [clock.work(9 if cold else 1)]

        return query

    for recording in in_turns([load.load(query_of(name), 4, Rules(1, 10)) for name in "ab"]):
        assert recording.latencies.max() == pytest.approx(1, rel=1e-3)


def test_one_that_fails_leaves_the_others_their_turns(clock):
    def fails(images):
        if clock.now > 2e9:
            raise RuntimeError("device lost")
        return [0], [clock.work(10)]

    broken, fine = in_turns([load.load(q, 4, Rules(5, 100)) for q in (fails, clock.answers(10))])
    assert broken.failure is not None
    assert fine.failure is None
    assert fine.seconds > 4.9


# --- queries that come when they come ---


def test_arrivals_are_a_poisson_process_of_the_rate(clock):
    recording = run(clock.answers(0.01), rate=200, duration=20)
    gaps = np.diff(recording.issued) / 1e9
    assert gaps.mean() == pytest.approx(1 / 200, rel=0.05)
    assert gaps.std() == pytest.approx(1 / 200, rel=0.05)
    assert recording.issued[-1] - recording.issued[0] == pytest.approx(20e9, rel=0.02)
    again = run(clock.answers(0.01), rate=200, duration=20)
    assert (np.diff(again.issued) == np.diff(recording.issued)).all()


def test_a_query_that_waits_for_others_counts_from_when_it_was_due(clock):
    recording = run(clock.answers(4), rate=200, duration=20)
    # A queue with one server, exponential gaps and constant service (M/D/1), by Pollaczek and Khinchine:
    # the mean wait is load / (2 x (1 - load)) of the service.
    assert recording.waiting.mean() == pytest.approx(4 * 0.8 / (2 * 0.2), rel=0.2)
    assert recording.latencies == pytest.approx(recording.waiting + 4, abs=0.01)
    assert recording.stages.max() == pytest.approx(4, rel=1e-3)
    assert not recording.behind


def test_a_queue_that_grows_without_end_is_given_up(clock):
    recording = run(clock.answers(6), rate=200, duration=100)
    assert recording.behind
    assert recording.waiting.max() < 1006
    assert recording.seconds < 20


def test_in_real_time_queries_start_when_they_are_due():
    recording = run(
        lambda images: ([0], [time.perf_counter_ns()]), rate=200, duration=0.5, min_queries=50, warm_up=0
    )
    # Some do, on a machine that is busy too; none starts before. Queries are 5 ms apart.
    assert 0 <= recording.waiting.min() < 1


def test_latency_counts_from_when_the_query_was_due():
    recording = Recording(
        images=np.array([[0], [1], [0]]),
        answers=np.array([[0], [0], [0]]),
        issued=np.array([0, 5_000_000, 50_000_000]),
        started=np.array([0, 6_000_000, 50_000_000]),
        ended=np.array([[1_000_000, 4_000_000], [9_000_000, 12_000_000], [51_000_000, 52_000_000]]),
        turns=np.array([0, 0, 1]),
    )
    assert recording.latencies.tolist() == [4, 7, 2]
    assert recording.waiting.tolist() == [0, 1, 0]
    assert recording.stages.tolist() == [[1, 3], [3, 3], [1, 1]]
    assert recording.seconds == pytest.approx(0.014)
