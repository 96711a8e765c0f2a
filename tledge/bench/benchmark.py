"""One bench run: the machine looked at, the load generated, the result with its validity.

What is counted is what a user of `tledge.load` runs: the stages are the methods of `Model`.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tledge.bench import cold, noise, state
from tledge.bench.load import MIN_QUERIES, Query, percentile, single_stream, summary
from tledge.bench.validity import Measured, reasons
from tledge.bundle import Bundle
from tledge.errors import InputError, UsageError
from tledge.runtime import Model, open_model
from tledge.runtime.choose import choose

SCENARIOS = ("single-stream",)
SOURCES = ("jpeg", "pixels", "tensor")
STAGES = ("decode", "preprocess", "upload", "infer", "download", "postprocess")
IMAGES = 128  # different images a run draws from: enough to defeat caches, little enough to be kept decoded


def run(
    bundle: Bundle,
    scenario: str = "single-stream",
    *,
    variant: str = "auto",
    backend: str = "auto",
    duration: float = 10.0,
    source: str = "jpeg",
    threads: int | None = None,
    seed: int = 0,
    images: Sequence[bytes] | None = None,
) -> dict[str, Any]:
    """Measure one variant of a bundle on one backend and return the bench's JSON document.

    `duration` is the least the run lasts, in seconds; `source` where a query starts: a file's bytes ("jpeg",
    whatever their format), decoded pixels, or the input tensor; `images` are file contents to use instead of
    the bundle's own eval images. See `tledge.load` for the rest. The document says under `valid` and
    `reasons` whether to believe it. Raises UsageError (scenario, source, duration), InputError (no images),
    and what loading raises.
    """
    if scenario not in SCENARIOS:
        raise UsageError(
            f"there is no scenario {scenario!r}", hint=f"The scenarios are {', '.join(SCENARIOS)}."
        )
    if source not in SOURCES:
        raise UsageError(f"a query cannot start from {source!r}", hint=f"It is one of {', '.join(SOURCES)}.")
    if not 0 < duration < float("inf"):
        raise UsageError(
            f"the duration is {duration:g} s", hint="Give more than 0 seconds; 10 is the default."
        )
    files = _files(bundle, seed) if images is None else [images[i] for i in draw(len(images), seed)]
    if not files:
        raise InputError(
            f"{bundle.path} holds no eval images" if images is None else "the list of images is empty",
            hint="Give images to measure with.",
            path=bundle.path,
        )
    backend, variant = choose(bundle, backend, variant)
    model = open_model(bundle, backend, variant, threads=threads)
    start = cold.measure(bundle.path, backend, variant, threads=model.session.threads, image=files[0])
    measured = measure(model, files, source=source, duration=duration, seed=seed)
    return document(
        measured,
        scenario=scenario,
        source=source,
        model=model,
        cold_start=start,
        size=len(bundle.read(f"{variant}.onnx")),
    )


def _files(bundle: Bundle, seed: int) -> list[bytes]:
    everything = bundle.eval_images()
    return [bundle.read(everything[i].file) for i in draw(len(everything), seed)]


def draw(count: int, seed: int) -> list[int]:
    """Return at most `IMAGES` of the numbers below `count`, drawn by `seed`, ascending."""
    return sorted(np.random.default_rng(seed).permutation(count)[:IMAGES].tolist())


def measure(
    model: Model,
    files: Sequence[bytes],
    *,
    source: str = "jpeg",
    duration: float = 10.0,
    min_queries: int = MIN_QUERIES,
    seed: int = 0,
) -> Measured:
    """Run the single-stream load on a loaded model; look at the machine and its noise before and after."""
    query = queries(model, files, source)
    blocks = noise.calibrate(_typical_inference_ms(model, files[0]))
    noise_before = noise.measure(blocks, model.session.threads)
    gc.collect()
    before = state.look()
    recording = single_stream(query, len(files), duration=duration, min_queries=min_queries, seed=seed)
    after = state.look()
    noise_after = noise.measure(blocks, model.session.threads)
    return Measured(recording, timed(source), before, after, noise_before, noise_after)


def _typical_inference_ms(model: Model, file: bytes) -> float:
    tensor = model.preprocess(file)
    times = []
    for _ in range(20):
        started = time.perf_counter()
        model.logits(tensor)
        times.append((time.perf_counter() - started) * 1e3)
    return percentile(np.array(times), 0.5)


def queries(model: Model, files: Sequence[bytes], source: str) -> Query:
    """Return what answers one query from `source`, with a time stamp after each stage of `timed`."""
    clock = time.perf_counter_ns

    def from_file(data: bytes, stamps: list[int]) -> NDArray[Any]:
        """Return the tensor; where a JPEG is read straight to it, the kernels say when decoding ended."""
        straight = model.straight(data, stamps)
        if straight is not None:
            return straight
        pixels = model.pixels(data)
        stamps.append(clock())
        return model.tensor([pixels])

    def from_pixels(pixels: NDArray[Any], stamps: list[int]) -> NDArray[Any]:
        return model.tensor([pixels])

    def from_tensor(tensor: NDArray[Any], stamps: list[int]) -> NDArray[Any]:
        return tensor

    def label(logits: NDArray[np.float32]) -> int | None:
        return model.answers(logits, [b""])[0].index

    begin: Callable[[Any, list[int]], NDArray[Any]] = from_file
    starts: list[Any] = list(files)
    if source == "pixels":
        begin, starts = from_pixels, [model.pixels(file) for file in files]
    elif source == "tensor":
        begin, starts = from_tensor, [model.preprocess(file) for file in files]

    def query(image: int) -> tuple[Any, Sequence[int]]:
        stamps: list[int] = []
        tensor = begin(starts[image], stamps)
        if source != "tensor":
            stamps.append(clock())
        logits = model.logits(tensor)
        stamps.append(clock())
        answer = label(logits)
        stamps.append(clock())
        return answer, stamps

    return query


def timed(source: str) -> tuple[str, ...]:
    """Return the stages of a query that starts from `source`, on a CPU: nothing is up- or downloaded."""
    return ("decode", "preprocess", "infer", "postprocess")[SOURCES.index(source) :]


def document(
    measured: Measured, *, scenario: str, source: str, model: Model, cold_start: cold.ColdStart, size: int
) -> dict[str, Any]:
    """Return the bench's JSON document of a run."""
    recording = measured.recording
    why_not = reasons(measured)
    times = dict(zip(measured.stages, recording.stages.T, strict=True))
    stages = {name: summary(times[name]) if name in times else None for name in STAGES}
    return {
        "valid": not why_not,
        "reasons": why_not,
        "scenario": scenario,
        "from": source,
        "variant": model.variant,
        "backend": model.backend,
        "device": model.device,
        "threads": model.session.threads,
        "queries": len(recording.images),
        "seconds": recording.seconds,
        "latency_ms": summary(recording.latencies),
        "throughput": len(recording.images) / recording.seconds,
        "stages_ms": stages,
        "cold_start_ms": cold_start.total_ms,
        "cold_start_parts_ms": cold_start.parts_ms,
        "peak_memory_mib": cold_start.peak_memory_mib,
        "graph_mib": size / 2**20,
        "environment": state.environment(
            measured.before,
            measured.after,
            noise={"before": asdict(measured.noise_before), "after": asdict(measured.noise_after)},
        ),
    }
