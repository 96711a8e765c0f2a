"""Whether to believe a run: a result is valid, or says why not."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from tledge.bench import noise, state
from tledge.bench.accuracy import Accuracy
from tledge.bench.load import Recording
from tledge.bench.percentiles import percentile
from tledge.bench.sampling import Watched

# What makes a run not valid. Idle machines stay well below, a busy loop or a clock that moves is well above;
# the measurements are in docs/bench.md.
OTHER_LOAD_CPUS = 0.2
OTHER_LOAD_PEAK_CPUS = 0.5
SPEED_MOVED = 0.08
# An inference also waits for memory, and for its threads after each layer: on quiet machines its P99/P50 is
# up to twice as far above 1 as that of plain work.
NOISE_FACTOR = 2.0
NOISE_SLACK = 0.25


@dataclass(frozen=True)
class Measured:
    """A run, the names of its stages, how many queries it should have made, and the machine around it.

    `device_stages` are the times of each stage (ms, one a query) by a device's events, where it has any.
    """

    recording: Recording
    stages: tuple[str, ...]
    queries: int
    watched: Watched
    noise_before: noise.Noise
    noise_after: noise.Noise
    accuracy: Accuracy | None = None
    alone: bool = True  # whether nobody took turns with it
    device_stages: dict[str, NDArray[np.float64]] | None = None


def reasons(measured: Measured) -> list[str]:
    """Return why the run must not be believed, one sentence a reason; nothing if it is valid."""
    return [*_of_the_load(measured), *_of_the_machine(measured), *_of_the_answers(measured)]


def _of_the_load(measured: Measured) -> list[str]:
    recording = measured.recording
    found = []
    made = len(recording.issued)
    if recording.failure is not None:
        found.append(f"the backend failed after {made} queries: {recording.failure}")
    elif recording.behind:
        found.append(
            f"the queue grew without end: after {recording.seconds:.1f} s a query had waited for more than "
            f"{percentile(recording.waiting, 1):.0f} ms; {made / recording.stages.sum() * 1e3:.1f} queries a "
            "second is what can be answered"
        )
    elif made < measured.queries:
        found.append(
            f"too few queries: {made} of {measured.queries} in {recording.seconds:.0f} s; "
            f"give --duration {np.ceil(recording.seconds / made * measured.queries):.0f} or more"
        )
    return found


def _of_the_machine(measured: Measured) -> list[str]:
    found = []
    watched = measured.watched
    other = state.other_load(watched.before, watched.after)
    peak = max(watched.other_loads, default=0.0)
    if other > OTHER_LOAD_CPUS:
        found.append(f"other processes kept {other:.2f} CPUs busy (allowed: {OTHER_LOAD_CPUS})")
    elif peak > OTHER_LOAD_PEAK_CPUS:
        found.append(
            f"other processes kept {peak:.2f} CPUs busy for a second (allowed: {OTHER_LOAD_PEAK_CPUS})"
        )
    found += _of_the_clocks(watched)
    moved = measured.noise_after.p50 / measured.noise_before.p50 - 1
    if abs(moved) > SPEED_MOVED:
        found.append(
            f"the machine's speed moved: the same work took {moved:+.0%} time after the run "
            f"(allowed: {SPEED_MOVED:.0%})"
        )
    infer = measured.recording.stages[:, measured.stages.index("infer")]
    ratio = percentile(infer, 0.99) / percentile(infer, 0.5)
    noisiest = max(measured.noise_before.ratio, measured.noise_after.ratio)
    allowed = 1 + NOISE_FACTOR * (noisiest - 1) + NOISE_SLACK
    if ratio > allowed:
        found.append(
            f"inference was unsteady: P99/P50 is {ratio:.2f}, the machine's own noise allows {allowed:.2f}"
        )
    return found


def _of_the_clocks(watched: Watched) -> list[str]:
    """Return which clocks were others late in the run than early: heat, or a power limit."""
    seen = {
        "processor": [s.look.fastest_mhz for s in watched.samples if s.look.fastest_mhz is not None],
        "GPU": watched.readings("gpu_mhz"),
    }
    found = []
    for name, clocks in seen.items():
        part = len(clocks) // 3
        if part < 1:
            continue
        early, late = median(clocks[:part]), median(clocks[-part:])
        if abs(late / early - 1) > SPEED_MOVED:
            found.append(
                f"the {name}'s clock moved: {early:.0f} MHz early in the run, {late:.0f} MHz late "
                f"(allowed: {SPEED_MOVED:.0%})"
            )
    held = sorted({word for words in watched.readings("throttled") for word in words})
    if held:
        found.append(f"the GPU's clock was held down: {', '.join(held)}")
    return found


def _of_the_answers(measured: Measured) -> list[str]:
    found = []
    changed = changed_answers(measured.recording)
    if changed:
        found.append(f"the answer to {changed} of the images changed between repeats")
    accuracy = measured.accuracy
    if accuracy is not None and accuracy.wrong:
        found.append(
            f"the answers were wrong: {accuracy.wrong} of {accuracy.images} images were answered otherwise "
            f"than in the ledger ({accuracy.stage})"
        )
    return found


def changed_answers(recording: Recording) -> int:
    """Return how many images did not get the same answer every time."""
    pairs = np.unique(np.stack([recording.images.ravel(), recording.answers.ravel()]), axis=1)
    return int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())
