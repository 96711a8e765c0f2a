"""Queries on a device that lends its memory (a GPU under TensorRT), and how long each of its stages takes.

There everything from upload to download is one graph, which the host sees as one step. So a run times the
graph that `predict` runs; afterwards the same images go through a graph with an event between any two stages.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tledge.bench.load import WARM_UP_QUERIES, Rules, order
from tledge.runtime import Model
from tledge.runtime.session import Lent

SHARE = 0.25  # of a run's duration, which its stages take on top
LAUNCH = "launch"  # what the host waits for a graph beyond what its events say

Spent = defaultdict[str, float]  # nanoseconds by the name of a stage


@dataclass(frozen=True)
class Batches:
    """Answers queries by the steps of `Model.predict_together`.

    `images` are as `tledge.bench.queries.starts` makes them for `source`; `columns` the stages of a query
    that the host can tell apart, the last of which is "postprocess".
    """

    model: Model
    images: Sequence[Any]
    source: str
    columns: tuple[str, ...]

    def query(self, positions: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """Answer a query; see `tledge.bench.load.Query`."""
        at = time.perf_counter_ns()
        labels, spent = self.answered(positions, timed=False)
        ended = []
        for stage in self.columns[:-1]:
            at += int(spent[stage])
            ended.append(at)
        return labels, [*ended, time.perf_counter_ns()]

    def answered(self, positions: Sequence[int], *, timed: bool) -> tuple[list[int], Spent]:
        """Return a query's class indices and what its stages took, with `timed` by the device's events."""
        spent: Spent = defaultdict(float)
        asked = [self.images[position] for position in positions]
        most = self.model.session.at_once(len(asked))
        labels: list[int] = []
        for first in range(0, len(asked), most):
            labels += self._answer(asked[first : first + most], spent, timed)
        return labels, spent

    def _answer(self, part: Sequence[Any], spent: Spent, timed: bool) -> list[int]:
        clock, model = time.perf_counter_ns, self.model
        assert model.session.lend is not None
        with model.session.lend() as lent:
            began, device = clock(), None
            if self.source == "pixels" and model.session.takes_pixels:
                device = _run(lent, len(part), part, timed)
            if device is None:
                self._fill(part, lent.images, spent, timed)
                began, device = clock(), _run(lent, len(part), None, timed)
            ended = clock()
            told = 0.0
            for stage, ms in (device or {}).items():
                spent[stage] += ms * 1e6
                told += ms * 1e6
            spent[LAUNCH if timed else "infer"] += max(0.0, ended - began - told)
            answers = model.named(lent.top(len(part), 5), [b""] * len(part))
            spent["postprocess"] += clock() - ended
        return [answer.index for answer in answers]  # type: ignore[misc]  # None only beside an error

    def _fill(self, part: Sequence[Any], places: NDArray[Any], spent: Spent, timed: bool) -> None:
        """Write the tensors of a batch where the device reads them."""
        stage = "upload" if self.source == "tensor" else "preprocess"
        if not timed and stage not in self.columns:
            stage = "infer"
        for image, place in zip(part, places, strict=False):
            began = time.perf_counter_ns()
            stamps: list[int] = []
            if self.source == "tensor":
                place[:] = image[0]
            else:
                self.model.write(image, place, stamps)
            if self.source == "jpeg":
                spent["decode"] += stamps[0] - began
                began = stamps[0]
            spent[stage] += time.perf_counter_ns() - began


def _run(lent: Lent, count: int, images: Sequence[Any] | None, timed: bool) -> dict[str, float] | None:
    """Have images or filled tensors answered; return what its events say, None where they do not fit."""
    if timed:
        return lent.run_timed(count, images)
    if images is None:
        lent.run(count)
        return {}
    return {} if lent.run_pixels(images) else None


def stage_times(batches: Batches, rules: Rules) -> dict[str, NDArray[np.float64]]:
    """Return how long each stage took, in ms, of as many queries as `rules` ask of a run.

    The images come in the order of the run's. Besides the stages of the contract there is "launch". Call it
    in the thread that opened the model.
    """
    chosen = order(len(batches.images), rules)
    for query in chosen[:WARM_UP_QUERIES]:
        batches.answered(query, timed=True)
    found: list[Spent] = []
    until = time.perf_counter() + rules.duration * SHARE
    while len(found) < rules.min_queries or time.perf_counter() < until:
        found.append(batches.answered(chosen[len(found) % len(chosen)], timed=True)[1])
    stages = dict.fromkeys(stage for spent in found for stage in spent)
    return {stage: np.array([spent[stage] for spent in found]) / 1e6 for stage in stages}
