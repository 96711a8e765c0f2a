"""An engine on the device that it is for: scored against the graph it was built of, gated, and timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tledge.bundle import Bundle
from tledge.engine.process import Outcome
from tledge.errors import AccuracyError, MachineError
from tledge.evaluation.images import EvalSet
from tledge.evaluation.stage import REFERENCE, Stage, has_logits, measure_engine
from tledge.progress import Progress
from tledge.runtime import Session, backends, machine
from tledge.runtime.engine_manifest import EngineManifest
from tledge.runtime.place import Place
from tledge.runtime.tensorrt import open_plan
from tledge.runtime.tensorrt_library import Library

# Engines take turns, so that a clock that moves while they are timed moves for all of them.
ROUNDS, RUNS = 20, 10


@dataclass(frozen=True)
class Candidate:
    """An engine that was built, and what became of it.

    `stage` is None where it was not scored; `failure` says why it did not pass the gate, "" if it did;
    `milliseconds` is the median time of its usual batch, from tensor to logits, None where it was not timed.
    """

    manifest: EngineManifest
    outcome: Outcome
    stage: Stage | None = None
    failure: str = ""
    milliseconds: float | None = None

    def as_dict(self, *, kept: bool) -> dict[str, Any]:
        """Return what the command prints of it."""
        return {
            "engine": self.manifest.name,
            "precision": self.manifest.variant,
            "milliseconds": self.milliseconds,
            "drop": self.manifest.gate.get("drop"),
            "failure": self.failure or None,
            "kept": kept,
        }


def cannot_run(manifest: EngineManifest, place: Place) -> str:
    """Say why an engine that was built on this machine cannot run on it, or return "" if it can."""
    reason = backends.missing(manifest.backend)
    if reason is None and place.architecture not in manifest.targets:
        reason = f"it is for {', '.join(manifest.targets)}, and the GPU here is {place.architecture}"
    return reason or ""


def check_parents(bundle: Bundle, variants: Sequence[str], images: EvalSet) -> None:
    """Raise MachineError, before anything is built, if an engine could not be compared with its graph."""
    for variant in variants:
        parent = f"{variant}@{REFERENCE[1]}"
        if not has_logits(bundle, parent, images) and (reason := backends.missing(REFERENCE[1])):
            raise MachineError(
                f"the answers of {parent} for these images are not kept, nor can they be made: {reason}",
                hint=f"Install it, or calibrate and evaluate on a PC first: tledge evaluate {bundle.path} "
                f"--variant {variant} --backend {REFERENCE[1]}",
            )


def judged(
    bundle: Bundle,
    library: Library,
    candidates: Sequence[Candidate],
    images: EvalSet | None,
    *,
    max_drop: float,
    progress: Progress,
) -> tuple[Candidate, ...]:
    """Return the candidates, which must run here, scored and gated on `images`; timed if there are several.

    Args:
        bundle: what they were built of.
        library: what runs them.
        candidates: engines that are in no bundle yet.
        images: what to score on; None leaves that out.
        max_drop: points of top-1 that an engine may lose against the graph that it was built of.
        progress: where to show how far it is.
    """
    with ExitStack() as stack:
        sessions = [stack.enter_context(closing(_opened(bundle, library, one))) for one in candidates]
        pairs = list(zip(candidates, sessions, strict=True))
        if images is not None:
            scored = [_scored(bundle, *pair, images, max_drop=max_drop, progress=progress) for pair in pairs]
        else:
            scored = list(candidates)
        if len(scored) > 1:
            times = timed(sessions, [one.manifest.batch[1] for one in candidates])
            scored = [replace(one, milliseconds=ms) for one, ms in zip(scored, times, strict=True)]
        return tuple(scored)


def timed(sessions: Sequence[Session], batches: Sequence[int]) -> list[float]:
    """Return for each session the median milliseconds of one run with its batch size."""
    random = np.random.default_rng(0)
    tensors = []
    for session, batch in zip(sessions, batches, strict=True):
        shape = (batch, *(int(size or 1) for size in session.input_shape[1:]))
        tensors.append(random.integers(0, 2, shape).astype(session.input_dtype))
    samples: list[list[float]] = [[] for _ in sessions]
    for _ in range(ROUNDS):
        for session, tensor, sample in zip(sessions, tensors, samples, strict=True):
            for _ in range(RUNS):
                started = time.perf_counter()
                session.run(tensor)
                sample.append(1000 * (time.perf_counter() - started))
    return [round(statistics.median(sample), 4) for sample in samples]


def fastest(candidates: Sequence[Candidate]) -> Candidate:
    """Return the fastest that passed the gate.

    Raises:
        AccuracyError: none did.
    """
    passed = [one for one in candidates if not one.failure]
    if not passed:
        raise AccuracyError(
            "; ".join(f"{one.manifest.name} {one.failure}" for one in candidates),
            hint="Nothing was changed. Allow more with --max-drop, or calibrate with more images.",
        )
    return min(passed, key=lambda one: one.milliseconds or 0.0)


def _opened(bundle: Bundle, library: Library, candidate: Candidate) -> Session:
    return open_plan(
        library,
        candidate.manifest,
        candidate.outcome.built.plan,
        spec=bundle.spec,
        threads=machine.physical_cores(),
    )


def _scored(
    bundle: Bundle,
    candidate: Candidate,
    session: Session,
    images: EvalSet,
    *,
    max_drop: float,
    progress: Progress,
) -> Candidate:
    stage = measure_engine(bundle, session, candidate.manifest, images=images, progress=progress)
    found = stage.comparison
    if found is None:
        return replace(candidate, stage=stage, failure="has nothing to be compared with")
    if found.drop_low > max_drop:
        failure = f"loses {found.drop:.2f} points of top-1 (95 %: at least {found.drop_low:.2f})"
        failure += f" against {stage.row.parent}, and {max_drop} may go"
        return replace(candidate, stage=stage, failure=failure)
    gate = {"max_drop": max_drop, "drop": found.drop, "drop_low": found.drop_low, "n": found.n}
    return replace(candidate, manifest=replace(candidate.manifest, gate=gate), stage=stage)
