"""One INT8 variant: each way to find ranges tried on tune, with and without correction, and the best kept."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tledge.evaluation.paired import Comparison, compare
from tledge.progress import Progress
from tledge.quantization import emit_cpu, emit_trt, ranges
from tledge.quantization.graph import Graph, session
from tledge.quantization.images import BATCH
from tledge.quantization.observers import Observer
from tledge.quantization.placement import Placement, Target, place
from tledge.quantization.qdq import Correction
from tledge.quantization.ranges import Range
from tledge.runtime.machine import has_int8_dot_product

if TYPE_CHECKING:
    from onnx import ModelProto

# What `--ranges` means: the methods that are tried. Entropy is no part of auto: on EfficientNet-Lite0 and
# MobileNetV2 its error was four times that of the others (docs/int8.md), and it is the slowest.
METHODS: dict[str, tuple[str, ...]] = {
    "auto": ("mse", "percentile-99.99", "minmax"),
    "minmax": ("minmax",),
    "percentile": ("percentile-99.99", "percentile-99.999", "percentile-99.9999"),
    "mse": ("mse",),
    "entropy": ("entropy",),
}


@dataclass(frozen=True)
class Tune:
    """The images that choices are made on: tensors, labels, and the float network's logits."""

    tensors: NDArray[np.float32]
    labels: NDArray[np.intp]
    logits: NDArray[np.float32]


@dataclass(frozen=True)
class Trial:
    """One state that was tried, with what tune says of it against the float network."""

    variant: Target
    ranges: str
    corrected: bool
    floating: tuple[str, ...]
    kl: float
    agreement: float
    drop: float
    drop_low: float
    seconds: float

    def __str__(self) -> str:
        """Show the trial as a line of the table that the user reads."""
        state = f"{self.ranges}{' + correction' if self.corrected else ''}"
        if self.floating:
            state += f", {len(self.floating)} layers in float"
        return (
            f"{self.variant:<8}  {state:<44}  KL {self.kl:.5f}  kept {self.agreement:6.2f} %  "
            f"drop {self.drop:+.2f}  {self.seconds:.1f} s"
        )


@dataclass(frozen=True)
class Built:
    """A variant: what was decided, the graph that follows (in float32 where not INT8), and the trials."""

    placement: Placement
    ranges: Mapping[str, Range]
    model: ModelProto
    chosen: Trial
    trials: tuple[Trial, ...]


def build(
    model: ModelProto,
    target: Target,
    observers: Mapping[str, Observer],
    corrections: Mapping[str, Correction],
    tune: Tune,
    *,
    methods: Sequence[str],
    floating: frozenset[str] = frozenset(),
    threads: int,
    progress: Progress,
) -> Built:
    """Return the variant whose answers on tune are nearest to the float network's (least mean KL).

    Args:
        model: The float network, simplified.
        target: Which variant.
        observers: What was seen of each tensor.
        corrections: What is mended in its layers, if that helps (see `tledge.quantization.bias`).
        tune: What the trials are judged by.
        methods: The ways to find ranges (keys of `ranges.METHODS`).
        floating: Nodes that stay float whatever the rules say.
        threads: Threads of one inference.
        progress: Where the trials are told.
    """
    placement = place(Graph(model), target, floating)
    candidates: list[Built] = []
    for method in methods:
        found = find_ranges(placement, observers, method)
        for mended in ({}, corrections) if corrections else ({},):
            candidates.append(attempt(model, placement, method, found, mended, tune=tune, threads=threads))
            progress.note(str(candidates[-1].chosen))
    best = min(candidates, key=lambda candidate: candidate.chosen.kl)
    return dataclasses.replace(best, trials=tuple(candidate.chosen for candidate in candidates))


def attempt(
    model: ModelProto,
    placement: Placement,
    method: str,
    found: Mapping[str, Range],
    corrections: Mapping[str, Correction],
    *,
    tune: Tune,
    threads: int,
) -> Built:
    """Return one state, judged on tune: the placement with ranges by `method`, and corrections or {}."""
    started = time.monotonic()
    emitted = emit(model, placement, found, corrections)
    compared = judge(emitted, placement.target, tune, threads)
    trial = Trial(
        variant=placement.target,
        ranges=method,
        corrected=bool(corrections),
        floating=tuple(d.node for d in placement.decisions if d.rule == "asked"),
        kl=compared.kl,
        agreement=compared.agreement,
        drop=compared.drop,
        drop_low=compared.drop_low,
        seconds=time.monotonic() - started,
    )
    return Built(placement, found, emitted, trial, (trial,))


def find_ranges(placement: Placement, observers: Mapping[str, Observer], method: str) -> dict[str, Range]:
    """Return the range of each tensor of the placement by one method."""

    def scheme(name: str) -> ranges.Scheme:
        whole = placement.target == "int8-cpu" or name in placement.centred
        return ranges.ASYMMETRIC if whole else ranges.SYMMETRIC

    return {name: ranges.find(observers[name], method, scheme(name)) for name in placement.tensors}


def emit(
    model: ModelProto,
    placement: Placement,
    found: Mapping[str, Range],
    corrections: Mapping[str, Correction],
) -> ModelProto:
    """Return the placement's graph, as its target reads it."""
    write = emit_trt.emit if placement.target == "int8" else emit_cpu.emit
    return write(model, placement, found, corrections)


def judge(model: ModelProto, target: Target, tune: Tune, threads: int) -> Comparison:
    """Return how the graph's answers on tune differ from the float network's.

    A choice must not depend on the processor it is made on: where INT8 sums saturate, Q/DQ are computed as
    they are written.
    """
    opened = session(model, threads, exact=target == "int8", integer=has_int8_dot_product())
    found = answers(opened, tune.tensors)
    return compare(tune.logits, found, tune.labels)


def answers(opened: Any, tensors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logits of an ONNX Runtime session for some tensors, batch by batch."""
    name = opened.get_inputs()[0].name
    size = opened.get_inputs()[0].shape[0]
    step = size if isinstance(size, int) else BATCH
    parts = [opened.run(None, {name: tensors[i : i + step]})[0] for i in range(0, len(tensors), step)]
    logits: NDArray[np.float32] = np.concatenate(parts).reshape(len(tensors), -1)
    return logits
