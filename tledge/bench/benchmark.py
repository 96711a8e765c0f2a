"""A bench run: the machine looked at, the load generated, the result with its validity.

What is counted is what a user of `tledge.load` runs: the stages are the methods of `Model`. Several
candidates take turns in one run.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tledge.bench import accuracy, cold, comparison, grid, noise, sampling
from tledge.bench.candidates import Images, Subject, candidates, images_of, loaded
from tledge.bench.device import stage_times
from tledge.bench.document import document
from tledge.bench.load import LONGEST, in_turns, load
from tledge.bench.percentiles import percentile
from tledge.bench.queries import batches, timed
from tledge.bench.scenarios import Settings, settings
from tledge.bench.validity import Measured
from tledge.bundle import Bundle
from tledge.errors import UsageError
from tledge.progress import Progress
from tledge.runtime import Model
from tledge.runtime.backends import ENGINES
from tledge.runtime.tensorrt import engine_here
from tledge.runtime.tensorrt_library import load as library

NOISE_SECONDS = noise.SECONDS  # of the machine's noise test, shared by the candidates
LEAST_NOISE_SECONDS = 0.25


def run(
    bundle: Bundle,
    scenario: str = "single-stream",
    *,
    variant: str = "auto",
    backend: str = "auto",
    threads: Sequence[int] = (),
    batch: Sequence[int] = (),
    images: Sequence[bytes] | None = None,
    compare: Path | None = None,
    whole_grid: bool = False,
    every_image: bool = False,
    progress: Progress | None = None,
    **asked: Any,
) -> dict[str, Any]:
    """Measure a bundle and return the bench's JSON document.

    Each combination of `variant` and `backend` (names with commas between), `threads` an inference and
    `batch` (images a query; by default the scenario's) is a candidate. Several take turns, and the document
    then holds `runs` and `ratios`. With `whole_grid`, what is not named is every variant, one thread and all
    cores, one image and eight, and the document also holds `grid`. `images` are file contents to use instead
    of the bundle's own eval images; with `every_image` all of those are answered once after the run, and not
    only those that were drawn are held against the ledger. `compare` is an earlier result, `progress` is told
    how long it will last, and `asked` are the fields of `Settings`. The document says under `valid` and
    `reasons` whether to believe it.

    Raises:
        UsageError: a setting that makes no sense.
        InputError: no images; an earlier result that cannot be read, or was measured otherwise.
        TledgeError: what loading raises.
    """
    wanted = settings(scenario, **asked)
    earlier = [] if compare is None else comparison.read(compare)
    if every_image and images is not None:
        raise UsageError(
            "accuracy is that of the bundle's eval images", hint="Leave --data or --accuracy out."
        )
    found = images_of(bundle, images, wanted.seed)
    if whole_grid:
        variant = grid.variants(bundle) if variant == "auto" else variant
        threads, batch = threads or grid.threads(), batch or grid.BATCHES
    sizes = batch or [wanted.scenario.per_query]
    if compare is not None:
        comparison.check(
            earlier,
            compare,
            scenario=scenario,
            source=wanted.source,
            sizes=sizes,
            data_sha256=found.sha256,
        )
    who = candidates(bundle, variant.split(","), backend.split(","), threads or [None], sizes)
    if len(who) > 1 and wanted.rate is not None:
        raise UsageError(
            "the scenario server takes one candidate at a time",
            hint="A turn would empty the queue that it is about: run it once for each.",
        )
    if progress is not None:
        turns = f"{len(who)} candidates take turns: " if len(who) > 1 else ""
        least = wanted.duration * len(who)
        progress.note(f"{turns}it lasts {least:.0f} s, up to {LONGEST * least:.0f} s where queries are slow")
    subjects = loaded(bundle, who, found.files, wanted.source)
    starts = _cold_starts(bundle, subjects, found.files[0])
    measured = measure(subjects, len(found.files), wanted)
    measured = [
        _staged(_judged(bundle, one, subject, found, every_image), subject, wanted)
        for one, subject in zip(measured, subjects, strict=True)
    ]
    runs = [
        document(
            one,
            wanted,
            model=subject.model,
            data_sha256=found.sha256,
            cold_start=starts[id(subject.model)],
            sizes_mib=_sizes_mib(bundle, subject.model),
        )
        for one, subject in zip(measured, subjects, strict=True)
    ]
    ratios = comparison.ratios([one.recording for one in measured], [comparison.name(run) for run in runs])
    if compare is not None:
        ratios += comparison.against(runs, earlier, compare)
    if whole_grid:
        return {"runs": runs, "ratios": ratios, "grid": grid.table(bundle, runs)}
    if len(runs) == 1:
        return {**runs[0], "ratios": ratios} if ratios else runs[0]
    return {"runs": runs, "ratios": ratios}


def _cold_starts(bundle: Bundle, subjects: Sequence[Subject], image: bytes) -> dict[int, cold.ColdStart]:
    """Return the cold start of each model, by its id; of several candidates each starts only once."""
    repeats = cold.REPEATS if len(subjects) == 1 else 1
    return {
        key: cold.measure(
            bundle.path,
            model.backend,
            model.variant,
            threads=model.session.threads,
            image=image,
            repeats=repeats,
        )
        for key, model in {id(subject.model): subject.model for subject in subjects}.items()
    }


def _sizes_mib(bundle: Bundle, model: Model) -> tuple[float, float | None]:
    """Return how large the graph is on disk, and the engine that was built of it, where one runs."""
    graph = bundle.file(f"{model.variant}.onnx").stat().st_size / 2**20
    if model.backend not in ENGINES:
        return graph, None
    return graph, engine_here(bundle, library(model.backend), model.variant).plan_bytes / 2**20


def _judged(
    bundle: Bundle, measured: Measured, subject: Subject, images: Images, every_image: bool
) -> Measured:
    """Return the run with its answers held against the ledger's, where its images are the bundle's own."""
    if images.positions is None:
        return measured
    model = subject.model
    if every_image and measured.recording.failure is None:
        return replace(measured, accuracy=accuracy.of_every_image(bundle, model, subject.per_query))
    known = accuracy.expected(bundle, images.positions, model.variant, model.backend)
    recording = measured.recording
    return replace(measured, accuracy=accuracy.judge(recording.images, recording.answers, known))


def _staged(measured: Measured, subject: Subject, wanted: Settings) -> Measured:
    """Return the run with the times of its stages by the device's events, where it has any."""
    model = subject.model
    if not model.fills_in_place or measured.recording.failure is not None:
        return measured
    found = stage_times(batches(model, subject.images, wanted.source), wanted.rules(subject.per_query))
    return replace(measured, device_stages=found)


def measure(subjects: Sequence[Subject], images: int, wanted: Settings) -> list[Measured]:
    """Run the load on all subjects by turns; look at the machine and its noise before and after."""
    seconds = max(LEAST_NOISE_SECONDS, NOISE_SECONDS / len(subjects))
    threads = [subject.model.session.threads for subject in subjects]
    blocks = [noise.calibrate(_typical_ms(subject)) for subject in subjects]

    def noises() -> list[noise.Noise]:
        return [noise.measure(b, t, seconds) for b, t in zip(blocks, threads, strict=True)]

    noise_before = noises()
    loads = [load(subject.query, images, wanted.rules(subject.per_query)) for subject in subjects]
    gc.collect()
    with sampling.watching(_device(subjects)) as seen:
        recordings = in_turns(loads)
    (watched,) = seen
    return [
        Measured(
            recording,
            timed(wanted.source, subject.model.session.takes_pixels),
            wanted.queries(subject.per_query),
            watched,
            quiet,
            quiet_after,
            alone=len(subjects) == 1,
        )
        for recording, subject, quiet, quiet_after in zip(
            recordings, subjects, noise_before, noises(), strict=True
        )
    ]


def _device(subjects: Sequence[Subject]) -> str:
    """Return the device whose state counts: a GPU, where any of the subjects uses one."""
    return max((subject.model.device for subject in subjects), key=lambda name: name.startswith("cuda"))


def _typical_ms(subject: Subject) -> float:
    """Return how long an inference of the subject takes by and large."""
    session = subject.model.session
    shape = [size or 1 for size in subject.model.spec.shape]
    tensor = np.zeros([session.at_once(subject.per_query), *shape], subject.model.spec.dtype)
    times = []
    for _ in range(20):
        started = time.perf_counter()
        subject.model.logits(tensor)
        times.append((time.perf_counter() - started) * 1e3)
    return percentile(np.array(times), 0.5)
