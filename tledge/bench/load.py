"""The load generator: issues queries, records a time stamp after each stage, and computes nothing meanwhile.

The rules are those of MLPerf Inference (https://github.com/mlcommons/inference_policies, "inference_rules"):
a fixed seed draws the images with replacement, a run has a minimum duration and a minimum number of queries,
and what counts is measured from when a query was due. It is not an MLPerf result.

A load is a generator that stops after each query, so that several can take turns.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Stamps = NDArray[np.int64]

# A query is given the positions of its images, and returns the answers' class indices and the time
# (time.perf_counter_ns) when each of its stages ended.
Query = Callable[[Sequence[int]], tuple[Sequence[int], Sequence[int]]]

LONGEST = 10  # a run ends after this many times its duration, however few queries it made
WARM_UP_SECONDS = 0.5
WARM_UP_QUERIES = 8
DRAWN = 4096  # queries, after which the same images come again
TURN_SECONDS = 0.25  # of one load while others wait: long beside a query, short beside what moves a clock
BEHIND_SECONDS = 1.0  # a server whose next query has waited for longer will not catch up
SPIN_NS = 300_000  # before a query is due: sleeping ends late by about a tenth of a millisecond


@dataclass(frozen=True)
class Recording:
    """All queries of one run, in the order in which they were issued.

    `images` and `answers` (queries x images a query) are the positions of the images and the class indices;
    `issued` (queries) when each was due, `started` when work on it began, `ended` (queries x stages) when
    each of its stages ended, in nanoseconds of time.perf_counter_ns; `turns` (queries) in which turn each
    was, from 0. `failure` is what ended the run before its time, `behind` that a server's queue grew without
    end.
    """

    images: Stamps
    answers: Stamps
    issued: Stamps
    started: Stamps
    ended: Stamps
    turns: Stamps
    failure: Exception | None = None
    behind: bool = False

    @property
    def latencies(self) -> NDArray[np.float64]:
        """Return how long each query took, from when it was due to its answers, in ms."""
        return (self.ended[:, -1] - self.issued) / 1e6

    @property
    def waiting(self) -> NDArray[np.float64]:
        """Return how long each query waited for those before it, in ms."""
        return (self.started - self.issued) / 1e6

    @property
    def stages(self) -> NDArray[np.float64]:
        """Return how long each stage of each query took: queries x stages, in ms."""
        return np.diff(self.ended, axis=1, prepend=self.started[:, None]) / 1e6

    @property
    def seconds(self) -> float:
        """Return the time from the first query of a turn to its last answer, summed over the turns."""
        firsts = np.flatnonzero(np.diff(self.turns, prepend=-1))
        lasts = np.append(firsts[1:], len(self.turns)) - 1
        return float((self.ended[lasts, -1] - self.issued[firsts]).sum()) / 1e9


@dataclass(frozen=True)
class Rules:
    """How a run is made: it lasts `duration` seconds and makes `min_queries` queries of `per_query` images.

    With a `rate` (queries a second) queries come by a Poisson process; without, each as soon as the one
    before is answered. A run ends in any case after ten times its duration: whether it made enough is for the
    caller to judge. Queries of the first `warm_up` seconds are not recorded.
    """

    duration: float
    min_queries: int
    per_query: int = 1
    rate: float | None = None
    behind: float = BEHIND_SECONDS
    seed: int = 0
    warm_up: float = WARM_UP_SECONDS


# What the driver sends says whether another load ran in between.
Load = Generator[None, bool, Recording]


def load(query: Query, images: int, rules: Rules) -> Load:
    """Return a load on `query`, drawing from so many images: warmed up, stopped before its first query."""
    made = _stream(query, images, rules)
    if rules.rate is not None:
        made = _arrivals(query, images, rules, rules.rate)
    next(made)
    return made


def alone(load: Load) -> Recording:
    """Run one load to its end."""
    return in_turns([load])[0]


def in_turns(loads: Sequence[Load], seconds: float = TURN_SECONDS) -> list[Recording]:
    """Run the loads to their ends by turns of so many seconds, so that what moves the machine moves all."""
    found: dict[int, Recording] = {}
    before: int | None = None  # whose turn it was; each warmed up after the others, so that nobody was last
    while len(found) < len(loads):
        for position, one in enumerate(loads):
            if position in found:
                continue
            until = time.perf_counter() + seconds
            try:
                one.send(len(loads) > 1 and before != position)
                before = position
                while time.perf_counter() < until:
                    one.send(False)
            except StopIteration as end:
                found[position] = end.value
    return [found[position] for position in range(len(loads))]


class _Tape:
    """What was recorded so far. Arrays of integers give the garbage collector nothing to look through."""

    def __init__(self) -> None:
        self.images, self.answers, self.issued = array("q"), array("q"), array("q")
        self.started, self.ended, self.turns = array("q"), array("q"), array("q")

    def recording(self, failure: Exception | None = None, behind: bool = False) -> Recording:
        """Return it; where nothing was recorded, the failure that was in the way is raised."""
        queries = len(self.issued)
        if failure is not None and not queries:
            raise failure
        table = (self.images, self.answers, self.issued, self.started, self.ended, self.turns)
        images, answers, issued, started, ended, turns = (np.frombuffer(c, dtype=np.int64) for c in table)
        return Recording(
            images.reshape(queries, -1),
            answers.reshape(queries, -1),
            issued,
            started,
            ended.reshape(queries, -1),
            turns,
            failure,
            behind,
        )


def _stream(query: Query, images: int, rules: Rules) -> Load:
    """Issue one query after another, each as soon as the one before is answered."""
    drawn = order(images, rules)
    _warm_up(query, drawn, rules.warm_up)
    tape = _Tape()
    taken, answers, issued, started, ended, turns = (
        tape.images.extend,
        tape.answers.extend,
        tape.issued.append,
        tape.started.append,
        tape.ended.extend,
        tape.turns.append,
    )
    clock = time.perf_counter_ns
    enough, latest = int(rules.duration * 1e9), int(LONGEST * rules.duration * 1e9)
    done = turn = spent = 0
    resumed = yield
    begun = clock()
    while (spent < enough or done < rules.min_queries) and spent < latest:
        chosen = drawn[done % DRAWN]
        try:
            if resumed:
                # The others left the caches theirs: a query that is not recorded fetches them back.
                query(chosen)
                turn += done > 0
                begun = clock() - spent
            start = clock()
            found, stamps = query(chosen)
        except Exception as error:
            return tape.recording(failure=error)
        taken(chosen)
        answers(found)
        issued(start)
        started(start)
        ended(stamps)
        turns(turn)
        done += 1
        spent = clock() - begun
        resumed = yield
    return tape.recording()


def _arrivals(query: Query, images: int, rules: Rules, rate: float) -> Load:
    """Issue queries when a Poisson process says so, whether or not those before are answered.

    They wait in a queue and are answered in their order, one at a time.
    """
    drawn = order(images, rules)
    gaps = (np.random.default_rng([rules.seed, 1]).exponential(1e9 / rate, DRAWN)).astype(int).tolist()
    _warm_up(query, drawn, rules.warm_up)
    tape = _Tape()
    clock = time.perf_counter_ns
    enough, latest = int(rules.duration * 1e9), int(LONGEST * rules.duration * 1e9)
    hopeless = int(rules.behind * 1e9)
    done = due = 0
    yield
    begun = clock()
    while (due < enough or done < rules.min_queries) and due < latest:
        due += gaps[done % DRAWN]
        _wait_until(begun + due)
        start = clock()
        if start - begun - due > hopeless:
            return tape.recording(behind=True)
        chosen = drawn[done % DRAWN]
        try:
            found, stamps = query(chosen)
        except Exception as error:
            return tape.recording(failure=error)
        tape.images.extend(chosen)
        tape.answers.extend(found)
        tape.issued.append(begun + due)
        tape.started.append(start)
        tape.ended.extend(stamps)
        tape.turns.append(0)
        done += 1
        yield
    return tape.recording()


def _wait_until(due: int) -> None:
    while (left := due - time.perf_counter_ns()) > 0:
        if left > SPIN_NS:
            time.sleep((left - SPIN_NS) / 1e9)


def order(images: int, rules: Rules) -> list[list[int]]:
    """Return the positions of each query's images, drawn from so many by the seed of the rules."""
    drawn = np.random.default_rng(rules.seed).integers(0, images, size=(DRAWN, rules.per_query))
    return drawn.tolist()  # type: ignore[no-any-return]


def _warm_up(query: Query, order: Sequence[Sequence[int]], seconds: float) -> None:
    until = time.perf_counter() + seconds
    done = 0
    while time.perf_counter() < until or done < WARM_UP_QUERIES:
        query(order[done % len(order)])
        done += 1
