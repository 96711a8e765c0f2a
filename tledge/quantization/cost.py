"""What nodes in float cost, where no machine is at hand to time it: their share of the multiplications."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tledge.quantization.graph import Graph
from tledge.quantization.rules import WEIGHTED


def macs(graph: Graph) -> dict[str, int]:
    """Return the multiply-accumulates of each weighted node for one image; 0 where its size is not known."""
    found = {}
    for node in graph.nodes:
        if node.op_type not in WEIGHTED or node.input[1] not in graph.constants:
            continue
        weight = graph.constants[node.input[1]]
        sizes = graph.types.get(node.output[0], (0, ()))[1][1:]
        known = math.prod(size or 0 for size in sizes)
        # A convolution's output channel has its weights side by side; a product's are one of two axes.
        columns = weight.shape[0] if node.op_type == "Conv" else max(sizes[-1] or 1, 1)
        each = weight.size // columns
        found[node.name] = known * each
    return found


def share(graph: Graph, nodes: Iterable[str]) -> float:
    """Return the percentage of the network's multiply-accumulates that `nodes` do."""
    if not (names := set(nodes)):
        return 0.0
    every = macs(graph)
    total = sum(every.values())
    return 100 * sum(count for name, count in every.items() if name in names) / total if total else 0.0
