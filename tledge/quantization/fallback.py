"""Float fallback: where INT8 loses more than is allowed, the fewest operators that mend it are left in float.

Often one place explains nearly all of a loss (arXiv 2012.08420). The unit is a tensor: it is float again when
every operator that holds it in INT8 is left in float. Tensors are ranked by the harm that each does alone
(`tledge.quantization.harm`); the first one, two, four... of the ranking are left in float together, until the
budget holds, and the fewest that still hold it are found by halving.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from tledge.progress import Progress
from tledge.quantization import cost
from tledge.quantization.build import Built, Network, Trial, Tune, attempt
from tledge.quantization.graph import Graph
from tledge.quantization.harm import harms
from tledge.quantization.placement import Placement, place
from tledge.quantization.qdq import Correction


def fall_back(
    network: Network,
    built: Built,
    corrections: Mapping[str, Correction],
    tune: Tune,
    *,
    within: Callable[[Trial], bool],
    most: float = 100.0,
    threads: int,
    progress: Progress,
) -> Built:
    """Return `built` if it is within the budget, else the state with the fewest operators in float that is.

    Where none is, the state whose answers are nearest to the float network's is returned: the gate decides.

    Args:
        network: The float network.
        built: The variant with all that the rules allow in INT8.
        corrections: What is mended in its layers.
        tune: What states are judged by.
        within: Whether a state is within the budget.
        most: The percentage of the multiplications that may be left in float.
        threads: Threads of one inference.
        progress: Where the states are told.
    """
    if within(built.chosen):
        return built
    graph, method = Graph(network.model), built.chosen.ranges
    target, already = built.placement.target, frozenset(built.chosen.floating)

    def placed(nodes: frozenset[str]) -> Placement:
        return place(graph, target, nodes | already, built.placement.bits)

    units = holders(built.placement)
    harm = harms(
        network, built.placement, built.ranges, corrections, tune, threads=threads, progress=progress
    )
    ranking: list[str] = []
    covered = frozenset[str]()
    for tensor in sorted(harm, key=lambda tensor: -harm[tensor]):
        together = covered | units[tensor]
        # A tensor whose operators are all in float by then would only be tried as the same state again.
        if together != covered and cost.share(graph, together) <= most:
            ranking.append(tensor)
            covered = together
    if not ranking:
        return built
    trials, best = list(built.trials), built

    def state(count: int) -> Built:
        nodes = frozenset[str]().union(*(units[tensor] for tensor in ranking[:count]))
        placement = placed(nodes)
        made = attempt(
            network, placement, method, {name: built.ranges[name] for name in placement.tensors}, corrections,
            step="float", tune=tune, threads=threads,
        )  # fmt: skip
        progress.note(str(made.chosen))
        trials.append(made.chosen)
        return made

    too_few, count = 0, 1
    while True:
        tried = state(count)
        if tried.chosen.kl < best.chosen.kl or within(tried.chosen):
            best = tried
        if within(tried.chosen) or count >= len(ranking):
            break
        too_few, count = count, min(2 * count, len(ranking))
    while within(best.chosen) and count - too_few > 1:
        middle = (too_few + count) // 2
        tried = state(middle)
        if within(tried.chosen):
            best, count = tried, middle
        else:
            too_few = middle
    return dataclasses.replace(best, trials=tuple(trials))


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
