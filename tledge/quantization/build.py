"""One state of an INT8 variant: placement, ranges and what is mended, written as a graph, judged on tune."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tledge.evaluation.paired import compare
from tledge.quantization import cost, emit_cpu, emit_trt, expect, latency, ranges
from tledge.quantization.graph import Graph, session
from tledge.quantization.images import BATCH
from tledge.quantization.observers import Observer
from tledge.quantization.placement import Placement
from tledge.quantization.qdq import Correction
from tledge.quantization.ranges import Range
from tledge.quantization.rules import Target
from tledge.runtime.machine import has_int8_dot_product

if TYPE_CHECKING:
    from onnx import ModelProto

# What `--ranges` means: the methods that each layer chooses from (`BY_LAYER`); the first of them is also
# tried for all layers. Entropy is no part of auto: on EfficientNet-Lite0 and MobileNetV2 its error was four
# times that of the others (docs/int8.md), and it is the slowest.
METHODS: dict[str, tuple[str, ...]] = {
    "auto": ("mse", "percentile-99.99", "minmax"),
    "minmax": ("minmax",),
    "percentile": ("percentile-99.99", "percentile-99.999", "percentile-99.9999"),
    "mse": ("mse",),
    "entropy": ("entropy",),
}
BY_LAYER = "layer"


@dataclass(frozen=True)
class Tune:
    """The images that choices are made on: tensors, labels, and the float network's logits."""

    tensors: NDArray[np.float32]
    labels: NDArray[np.intp]
    logits: NDArray[np.float32]


@dataclass(frozen=True)
class Network:
    """The float network that is quantised, and what was seen of its tensors.

    `equalised` are the factors of its channels by tensor (see `tledge.quantization.equalise`); where there
    are any, it is not the network of `fp32.onnx` to the letter, though its answers are.
    """

    model: ModelProto
    observers: Mapping[str, Observer]
    equalised: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """One state that was tried, with what tune says of it against the float network.

    `step` is the repair that it was tried for, `floating` the nodes left in float beyond the rules, with
    `float_macs` the percentage of all multiplications in them. `expected` is the percentage of answers that
    it is expected to keep on images not seen (see `tledge.quantization.expect`), `milliseconds` what an image
    takes in it on this processor, None for `int8` (see `tledge.quantization.latency`).
    """

    variant: Target
    step: str
    ranges: str
    equalised: bool
    corrected: bool
    rounded: bool
    floating: tuple[str, ...]
    float_macs: float
    kl: float
    agreement: float
    expected: float
    drop: float
    drop_low: float
    seconds: float
    milliseconds: float | None = None

    def __str__(self) -> str:
        """Show the trial as a line of the table that the user reads."""
        words = [self.ranges]
        words += [name for name in ("equalised", "corrected", "rounded") if getattr(self, name)]
        if self.floating:
            words.append(f"{len(self.floating)} in float ({self.float_macs:.1f} % of MACs)")
        taking = "" if self.milliseconds is None else f"{self.milliseconds:.2f} ms an image  "
        return (
            f"{self.variant:<8}  {self.step:<12}  {', '.join(words):<52}  KL {self.kl:.5f}  "
            f"kept {self.agreement:6.2f} %  expected {self.expected:6.2f} %  drop {self.drop:+.2f}  "
            f"{taking}{self.seconds:.1f} s"
        )


@dataclass(frozen=True)
class Built:
    """A variant: what was decided, the graph that follows (in float32 where not INT8), and the trials."""

    placement: Placement
    ranges: Mapping[str, Range]
    model: ModelProto
    chosen: Trial
    trials: tuple[Trial, ...]


def attempt(
    network: Network,
    placement: Placement,
    method: str,
    found: Mapping[str, Range],
    corrections: Mapping[str, Correction],
    *,
    step: str,
    tune: Tune,
    threads: int,
    before: float = 0.0,
) -> Built:
    """Return one state, judged on tune: the placement with ranges by `method`, and corrections or {}.

    `before` are the seconds that what is tried took to make; those of writing and judging it are added.
    """
    started = time.monotonic()
    emitted = emit(network.model, placement, found, corrections)
    logits = judge(emitted, placement.target, tune, threads)
    taking = None
    if placement.target == "int8-cpu":
        taking = latency.milliseconds(emitted, tune.tensors, threads)
    compared = compare(tune.logits, logits, tune.labels)
    floating = tuple(d.node for d in placement.decisions if d.rule == "asked")
    trial = Trial(
        variant=placement.target,
        step=step,
        ranges=method,
        equalised=bool(network.equalised),
        corrected=bool(corrections),
        rounded=any(one.offsets is not None for one in corrections.values()),
        floating=floating,
        float_macs=cost.share(Graph(network.model), floating),
        kl=compared.kl,
        agreement=compared.agreement,
        expected=expect.agreement(tune.logits, logits),
        drop=compared.drop,
        drop_low=compared.drop_low,
        seconds=before + time.monotonic() - started,
        milliseconds=taking,
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


def judge(model: ModelProto, target: Target, tune: Tune, threads: int) -> NDArray[np.float32]:
    """Return the graph's logits on tune.

    A choice must not depend on the processor it is made on: where INT8 sums saturate, Q/DQ are computed as
    they are written.
    """
    opened = session(model, threads, exact=target == "int8", integer=has_int8_dot_product())
    return answers(opened, tune.tensors)


def answers(opened: Any, tensors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logits of an ONNX Runtime session for some tensors, batch by batch."""
    name = opened.get_inputs()[0].name
    size = opened.get_inputs()[0].shape[0]
    step = size if isinstance(size, int) else BATCH
    parts = [opened.run(None, {name: tensors[i : i + step]})[0] for i in range(0, len(tensors), step)]
    logits: NDArray[np.float32] = np.concatenate(parts).reshape(len(tensors), -1)
    return logits
