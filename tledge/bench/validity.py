"""Whether to believe a run: a result is valid, or says why not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tledge.bench import noise, state
from tledge.bench.load import MIN_QUERIES, Recording, percentile

# What makes a run not valid. Idle machines stay well below, a busy loop or a clock that moves is well above;
# the measurements are in docs/runtime.md.
OTHER_LOAD_CPUS = 0.2
SPEED_MOVED = 0.08
# An inference also waits for memory, and for its threads after each layer: on quiet machines its P99/P50 is
# up to twice as far above 1 as that of plain work.
NOISE_FACTOR = 2.0
NOISE_SLACK = 0.25


@dataclass(frozen=True)
class Measured:
    """A run, the names of its stages, and the machine around it."""

    recording: Recording
    stages: tuple[str, ...]
    before: state.Look
    after: state.Look
    noise_before: noise.Noise
    noise_after: noise.Noise


def reasons(measured: Measured, min_queries: int = MIN_QUERIES) -> list[str]:
    """Return why the run must not be believed, one sentence a reason; nothing if it is valid."""
    recording = measured.recording
    found = []
    if len(recording.images) < min_queries:
        found.append(
            f"too few queries: {len(recording.images)} of {min_queries} in {recording.seconds:.0f} s; "
            f"give --duration {np.ceil(recording.latencies.mean() / 1e3 * min_queries):.0f} or more"
        )
    other = state.other_load(measured.before, measured.after)
    if other > OTHER_LOAD_CPUS:
        found.append(f"other processes kept {other:.2f} CPUs busy (allowed: {OTHER_LOAD_CPUS})")
    moved = measured.noise_after.p50 / measured.noise_before.p50 - 1
    if abs(moved) > SPEED_MOVED:
        found.append(
            f"the machine's speed moved: the same work took {moved:+.0%} time after the run "
            f"(allowed: {SPEED_MOVED:.0%})"
        )
    infer = recording.stages[:, measured.stages.index("infer")]
    ratio = percentile(infer, 0.99) / percentile(infer, 0.5)
    noisiest = max(measured.noise_before.ratio, measured.noise_after.ratio)
    allowed = 1 + NOISE_FACTOR * (noisiest - 1) + NOISE_SLACK
    if ratio > allowed:
        found.append(
            f"inference was unsteady: P99/P50 is {ratio:.2f}, the machine's own noise allows {allowed:.2f}"
        )
    changed = changed_answers(recording)
    if changed:
        found.append(f"the answer to {changed} of the images changed between repeats")
    return found


def changed_answers(recording: Recording) -> int:
    """Return how many images did not get the same answer every time."""
    pairs = np.unique(np.stack([recording.images, recording.answers]), axis=1)
    return int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())
