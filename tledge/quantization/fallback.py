"""Float fallback: where INT8 loses more than is allowed, the fewest operators that mend it are left in float.

Often one place explains nearly all of a loss (arXiv 2012.08420). The unit is a tensor: it is float again when
every operator that holds it in INT8 is left in float. Each tensor is tried alone, and ranked by how much
nearer to the float network the answers on tune then are; the first one, two, four... of the ranking are left
in float together, until the budget holds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tledge.progress import Progress
from tledge.quantization.build import Built, Trial, Tune, attempt, find_ranges
from tledge.quantization.graph import Graph
from tledge.quantization.observers import Observer
from tledge.quantization.placement import Placement, place
from tledge.quantization.qdq import Correction

if TYPE_CHECKING:
    from onnx import ModelProto


def fall_back(
    model: ModelProto,
    built: Built,
    observers: Mapping[str, Observer],
    corrections: Mapping[str, Correction],
    tune: Tune,
    *,
    within: Callable[[Trial], bool],
    threads: int,
    progress: Progress,
) -> Built:
    """Return `built` if it is within the budget, else the first state of the ranking that is.

    Where none is, the state whose answers are nearest to the float network's is returned: the gate decides.

    Args:
        model: The float network, simplified.
        built: The variant with all that the rules allow in INT8.
        observers: What was seen of each tensor.
        corrections: What may be mended in the layers.
        tune: What states are judged by.
        within: Whether a state is within the budget.
        threads: Threads of one inference.
        progress: Where the states are told.
    """
    if within(built.chosen):
        return built
    mended = corrections if built.chosen.corrected else {}

    graph, method = Graph(model), built.chosen.ranges
    already = frozenset(built.chosen.floating)

    def with_float(nodes: frozenset[str]) -> Built:
        placement = place(graph, built.placement.target, nodes | already)
        found = find_ranges(placement, observers, method)
        return attempt(model, placement, method, found, mended, tune=tune, threads=threads)

    units = holders(built.placement)
    harm: dict[str, float] = {}
    with progress.task(f"ranking {built.placement.target}", total=len(units), unit="tensors") as task:
        for tensor, nodes in units.items():
            harm[tensor] = built.chosen.kl - with_float(nodes).chosen.kl
            task.advance()
    ranking = sorted(units, key=lambda tensor: -harm[tensor])
    trials, best = list(built.trials), built
    count = 1
    while True:
        state = with_float(frozenset().union(*(units[tensor] for tensor in ranking[:count])))
        progress.note(str(state.chosen))
        trials += state.trials
        if state.chosen.kl < best.chosen.kl or within(state.chosen):
            best = state
        if within(state.chosen) or count >= len(ranking):
            return dataclasses.replace(best, trials=tuple(trials))
        count = min(2 * count, len(ranking))


def holders(placement: Placement) -> dict[str, frozenset[str]]:
    """Return for each tensor of the placement the nodes that read it in INT8, or (int8-cpu) make it so."""
    found: dict[str, set[str]] = {}
    for layer in placement.layers:
        found.setdefault(layer.input, set()).add(layer.node)
        if placement.target == "int8-cpu":
            found.setdefault(layer.result, set()).add(layer.node)
    for node, shortcut in placement.sums:
        found.setdefault(shortcut, set()).add(node)
    return {name: frozenset(found[name]) for name in placement.tensors if name in found}
