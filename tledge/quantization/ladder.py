"""The ladder of repairs: each tried on tune, kept only if it helps, until a state is within the budget.

Ranges, equalisation, correction, learned rounding, float fallback: in the order of what they cost where the
network runs, which is nothing but for the last. The three in the middle mend the network itself, so that both
variants share what is computed for them.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tledge.progress import Progress
from tledge.quantization import bias, by_layer, equalise
from tledge.quantization.build import BY_LAYER, Built, Network, Trial, Tune, attempt, find_ranges
from tledge.quantization.fallback import fall_back
from tledge.quantization.graph import Graph
from tledge.quantization.observers import Observer
from tledge.quantization.placement import Layer, place
from tledge.quantization.qdq import Bits, Correction, weight_noise
from tledge.quantization.rules import Target

# Power of the rounding error over that of the weights: 8 bits leave about a ten-thousandth.
ON_GRID = 1e-6


@dataclass(frozen=True)
class Job:
    """What a ladder works with.

    `fitting` are the calibration tensors that repairs are fitted on, `methods` the ways to find ranges,
    `bits` those of the weights of `int8-cpu`,
    `repair` the steps that may be tried, `floating` the nodes that stay float whatever the rules say;
    `within` tells whether a state is within the budget, and `most_float` what percentage of the
    multiplications may be left in float to mend it.
    """

    tune: Tune
    fitting: NDArray[np.float32]
    methods: Sequence[str]
    repair: Sequence[str]
    floating: frozenset[str]
    within: Callable[[Trial], bool]
    most_float: Callable[[Trial], float]
    threads: int
    progress: Progress
    bits: Bits = 8


@dataclass
class Mending:
    """The repairs of one network's weights, made when first asked for: corrections by step and node."""

    network: Network
    layers: Sequence[Layer]
    job: Job
    made: dict[str, dict[str, Correction]] = field(default_factory=dict)

    def is_needed(self) -> bool:
        """Tell whether weights lose anything: those of some networks lie on an INT8 grid already."""
        graph = Graph(self.network.model)
        found = [weight_noise(graph.constants[one.weight], one.axis, one.bits) for one in self.layers]
        return bool(found) and max(found) > ON_GRID

    def corrections(self, step: str) -> dict[str, Correction]:
        """Return what the step "correction" or "rounding" makes of the layers."""
        if step not in self.made:
            job = self.job
            self.made[step] = bias.correct(
                self.network.model,
                self.layers,
                job.fitting,
                learn=step == "rounding",
                threads=job.threads,
                progress=job.progress,
            )
        return self.made[step]


@dataclass(frozen=True)
class Repaired:
    """What the ladder ended with: the network, the variants, and what was mended in layers by step.

    `mended` is of weights in 8 bits, `narrowed` of those in 7.
    """

    network: Network
    mended: Mapping[str, Mapping[str, Correction]]
    narrowed: Mapping[str, Mapping[str, Correction]]
    built: Mapping[Target, Built]

    def corrections(self, target: Target) -> Mapping[str, Correction]:
        """Return what is mended in a variant's layers, by node; {} where nothing is."""
        one = self.built[target]
        if not one.chosen.corrected:
            return {}
        made = self.mended if one.placement.bits == 8 else self.narrowed
        return made["rounding" if one.chosen.rounded else "correction"]


def climb(
    network: Network,
    targets: Sequence[Target],
    job: Job,
    observe_again: Callable[[Network], Mapping[str, Observer]],
) -> Repaired:
    """Return each variant in the first state within the budget, else in the best state that was found.

    Args:
        network: The float network.
        targets: The variants.
        job: What to work with.
        observe_again: What is seen of the tensors of an equalised network.
    """
    states = {target: _state(network, target, job, step="ranges") for target in targets}
    if "equalisation" in job.repair and not all(job.within(state.chosen) for state in states.values()):
        network, states = _equalised(network, states, job, observe_again)
    built: dict[Target, Built] = {}
    made: dict[Bits, dict[str, dict[str, Correction]]] = {}
    widths: tuple[Bits, ...] = (8, 7)
    for bits in widths:
        alike = {target: state for target, state in states.items() if state.placement.bits == bits}
        layers = max((state.placement.layers for state in alike.values()), key=len, default=())
        mending = Mending(network, layers, job)
        built |= {target: _climb(network, state, job, mending) for target, state in alike.items()}
        made[bits] = mending.made
    return Repaired(network, made[8], made[7], {target: built[target] for target in targets})


def find_state(
    network: Network,
    target: Target,
    tune: Tune,
    *,
    methods: Sequence[str],
    floating: frozenset[str],
    threads: int,
    progress: Progress,
    step: str = "ranges",
    bits: Bits = 8,
) -> Built:
    """Return the variant with the better of two: ranges that each layer chooses, or the first method's."""
    placement = place(Graph(network.model), target, floating, bits)
    candidates = [find_ranges(placement, network.observers, method) for method in methods]
    tried = {methods[0]: candidates[0]}
    started = time.monotonic()
    if len(candidates) > 1:
        tried[BY_LAYER] = by_layer.choose(network.model, placement, candidates, tune.tensors, threads=threads)
    choosing = time.monotonic() - started
    states = []
    for method, found in tried.items():
        states.append(
            attempt(
                network, placement, method, found, {}, step=step, tune=tune, threads=threads,
                before=choosing if method == BY_LAYER else 0.0,
            )
        )  # fmt: skip
        progress.note(str(states[-1].chosen))
    best = min(states, key=lambda state: state.chosen.kl)
    return dataclasses.replace(best, trials=tuple(state.chosen for state in states))


def _state(network: Network, target: Target, job: Job, *, step: str) -> Built:
    return find_state(
        network,
        target,
        job.tune,
        methods=job.methods,
        floating=job.floating,
        threads=job.threads,
        progress=job.progress,
        step=step,
        bits=job.bits,
    )


def _equalised(
    network: Network,
    states: Mapping[Target, Built],
    job: Job,
    observe_again: Callable[[Network], Mapping[str, Observer]],
) -> tuple[Network, dict[Target, Built]]:
    """Return the equalised network and its states if these are nearer to the float one, else what came."""
    layers = max((state.placement.layers for state in states.values()), key=len)
    found = equalise.factors(network.model, layers, job.fitting, threads=job.threads)
    if not found:
        return network, dict(states)
    scaled = Network(equalise.apply(network.model, found), {}, found)
    other = dataclasses.replace(scaled, observers=observe_again(scaled))
    others = {target: _state(other, target, job, step="equalisation") for target in states}
    old, new = (sum(state.chosen.kl for state in some.values()) for some in (states, others))
    kept = others if new < old else states
    joined = {
        target: dataclasses.replace(kept[target], trials=states[target].trials + others[target].trials)
        for target in states
    }
    return (other if new < old else network), joined


def _climb(network: Network, built: Built, job: Job, mending: Mending) -> Built:
    """Return the variant after correction, rounding and float fallback, as far as it needs them."""
    for step in ("correction", "rounding"):
        # What the other variant has paid for is tried here too: a smaller error, for the time of scoring it.
        if job.within(built.chosen) and step not in mending.made:
            return built
        if step not in job.repair or not mending.is_needed():
            continue
        started = time.monotonic()
        mended = mending.corrections(step)
        state = attempt(
            network,
            built.placement,
            built.chosen.ranges,
            built.ranges,
            mended,
            step=step,
            tune=job.tune,
            threads=job.threads,
            before=time.monotonic() - started,
        )
        job.progress.note(str(state.chosen))
        better = state if state.chosen.kl < built.chosen.kl else built
        built = dataclasses.replace(better, trials=built.trials + state.trials)
    chosen = built.chosen
    mended = mending.made["rounding" if chosen.rounded else "correction"] if chosen.corrected else {}
    return fall_back(
        network,
        built,
        mended,
        job.tune,
        within=job.within,
        most=job.most_float(chosen),
        threads=job.threads,
        progress=job.progress,
    )
