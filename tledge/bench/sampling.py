"""The machine looked at again and again while a run goes on.

A thread looks once a second, which takes a fraction of a millisecond (`sampled.ms` in the result says what it
took): less than one query in a second meets it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from threading import Event, Thread
from typing import Any

from tledge.bench import power, state
from tledge.runtime import machine
from tledge.runtime.jetson import this_jetson

EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class Sample:
    """The machine at a moment, what each source said of it, and how long looking took (ms of CPU time)."""

    look: state.Look
    readings: tuple[power.Reading, ...]
    cost_ms: float


@dataclass(frozen=True)
class Watched:
    """What was seen during a run: `samples` (the first just before it, the last just after), `sources`."""

    samples: tuple[Sample, ...]
    sources: tuple[power.Source, ...]

    @property
    def before(self) -> state.Look:
        """Return the first look."""
        return self.samples[0].look

    @property
    def after(self) -> state.Look:
        """Return the last look."""
        return self.samples[-1].look

    @property
    def seconds(self) -> float:
        """Return the time between the first look and the last."""
        return self.after.at - self.before.at

    @property
    def other_loads(self) -> list[float]:
        """Return how many CPUs other processes kept busy, from each look to the next."""
        looks = [sample.look for sample in self.samples]
        return [
            state.other_load(*pair) for pair in pairwise(looks) if pair[1].at - pair[0].at > EVERY_SECONDS / 2
        ]

    @property
    def joules(self) -> dict[str, float]:
        """Return the energy of the run by source, as far as it can be read: counters, else mean power."""
        found = {}
        for position, source in enumerate(self.sources):
            readings = [sample.readings[position] for sample in self.samples]
            first, last = readings[0].joules, readings[-1].joules
            watts = [reading.watts for reading in readings if reading.watts is not None]
            if first is not None and last is not None:
                found[source.name] = last - first
            elif watts:
                found[source.name] = sum(watts) / len(watts) * self.seconds
        return found

    def readings(self, name: str) -> list[Any]:
        """Return one field of the readings, of all sources and samples, where it was read."""
        values = [getattr(reading, name) for sample in self.samples for reading in sample.readings]
        return [value for value in values if value is not None]


@contextmanager
def watching(device: str) -> Iterator[list[Watched]]:
    """Look at the machine while the block runs; what was seen is in the list after it.

    `device` is where the network runs ("cpu", "cuda:0").
    """
    with ExitStack() as stack:
        sources = power.sources(device)
        for source in sources:
            stack.callback(source.close)
        samples = [_look(sources)]
        stop = Event()

        def watch() -> None:
            while not stop.wait(EVERY_SECONDS):
                samples.append(_look(sources))

        thread = Thread(target=watch, name="tledge-bench-state", daemon=True)
        thread.start()
        found: list[Watched] = []
        try:
            yield found
        finally:
            stop.set()
            thread.join()
        found.append(Watched((*samples, _look(sources)), sources))


def _look(sources: Sequence[power.Source]) -> Sample:
    started = time.thread_time()
    look = state.look()
    readings = tuple(source.read() for source in sources)
    return Sample(look, readings, (time.thread_time() - started) * 1e3)


def described(watched: Watched, device: str) -> dict[str, Any]:
    """Return what the JSON's `environment` says of the time of the run; None for what could not be read."""
    samples = watched.samples
    joules = watched.joules
    board = this_jetson()
    found: dict[str, Any] = {
        "sampled": {
            "every_s": EVERY_SECONDS,
            "samples": len(samples),
            "ms": round(median(sample.cost_ms for sample in samples), 3),
        },
        "frequency_range_mhz": _range(
            [s.look.fastest_mhz for s in samples if s.look.fastest_mhz is not None]
        ),
        "temperature_range_c": _range(
            [s.look.temperature_c for s in samples if s.look.temperature_c is not None]
        ),
        "other_load_peak_cpus": round(max(watched.other_loads, default=0.0), 3),
        "power_w": {name: round(value / watched.seconds, 3) for name, value in joules.items()} or None,
        "power_of": {s.name: s.scope for s in watched.sources if s.name in joules} or None,
    }
    if board is not None:
        rails = [reading.rails_w for sample in samples for reading in sample.readings if reading.rails_w]
        found["board"] = board.board
        found["power_mode"] = board.power_mode
        found["clocks_fixed"] = all(clock.is_fixed for clock in board.clocks) if board.clocks else None
        found["rails_w"] = (
            {name: round(sum(r.get(name, 0.0) for r in rails) / len(rails), 3) for name in sorted(rails[0])}
            if rails
            else None
        )
    if board is not None or device.startswith("cuda"):
        used = int(device.partition(":")[2] or 0)
        found["gpu"] = next((gpu.name for gpu in machine.cuda().gpus if gpu.index == used), None)
        found["gpu_clock_mhz"] = _range(watched.readings("gpu_mhz"))
        found["gpu_temperature_c"] = _range(watched.readings("gpu_c"))
        found["gpu_load_percent"] = _range(watched.readings("gpu_load"))
        found["gpu_memory_mib"] = _range(watched.readings("gpu_memory_mib"))
        found["gpu_throttled"] = sorted({word for words in watched.readings("throttled") for word in words})
    return found


def _range(values: Sequence[float]) -> dict[str, float] | None:
    return {"least": round(min(values), 2), "most": round(max(values), 2)} if values else None
