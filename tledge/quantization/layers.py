"""What INT8 costs each layer, from a bundle's calibration and its float weights alone: no image is needed.

The signal-to-noise of a layer is that of its input (from the histogram and the range) and of its weights, as
the noises of the two factors of a product add up: 1/s = 1/s_input + 1/s_weight. What corrections mend is not
in it, and it is no measure of harm: the answers bear more noise from some layers than from others. The harm
itself was measured when the variant was made (`tledge.quantization.harm`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tledge.bundle import Bundle
from tledge.quantization import calibration_file
from tledge.quantization.graph import Graph, load
from tledge.quantization.observers import BINS, Observer
from tledge.quantization.placement import place
from tledge.quantization.qdq import shared, weight_noise
from tledge.quantization.ranges import Range, clip_error
from tledge.quantization.rules import TARGETS, WEIGHTED, Target


@dataclass(frozen=True)
class LayerView:
    """One convolution or matrix product.

    `rule` says why it is float, None where it is INT8; the rest is None where it is float. `low` and `high`
    are what its input's scale covers, `clipped` the percentage of values outside, `sqnr` is in dB. `loss` is
    the percentage of the variant's loss (KL from float, on tune) that rounding it and its input alone makes;
    what is not the layers' is that of residual sums. A calibration by an older tledge does not know it.
    """

    node: str
    op: str
    precision: str
    rule: str | None
    low: float | None = None
    high: float | None = None
    clipped: float | None = None
    sqnr: float | None = None
    loss: float | None = None


def describe(bundle: Bundle) -> dict[str, tuple[LayerView, ...]]:
    """Return the layers of each INT8 variant in the order of the graph; {} without a calibration.

    Raises:
        BundleError: the calibration is damaged, newer, or belongs to another network.
        MachineError: the package onnx is missing.
    """
    if not bundle.has(calibration_file.NAME):
        return {}
    document = calibration_file.read(bundle)
    model = load(bundle.read("fp32.onnx"), str(bundle.path / "fp32.onnx"))
    graph = Graph(calibration_file.network(document, model))
    return {target: _variant(document, graph, target) for target in TARGETS if target in document["variants"]}


def _variant(document: Mapping[str, Any], graph: Graph, target: Target) -> tuple[LayerView, ...]:
    reasons = {one["node"]: one["rule"] for one in document["variants"][target]["float"]}
    placement = place(graph, target, frozenset(reasons), document["variants"][target].get("weight_bits", 8))
    found = shared(calibration_file.ranges(document, target), placement)
    layers = {layer.node: layer for layer in placement.layers}
    noise: dict[str, float] = {}
    covered: dict[str, Range] = {}
    for layer in placement.layers:
        seen, span = observer(layer.input, document["tensors"][layer.input]), found[layer.input]
        if target == "int8" and layer.input not in placement.centred:
            span = Range(-span.largest, span.largest)
        steps = 254 if target == "int8" else 255
        power = max(seen.squares / seen.count, 0.0)
        error = clip_error(seen, span.low, span.high, (span.high - span.low) / steps)
        of_input = error / power if power else 0.0
        noise[layer.node] = of_input + weight_noise(graph.constants[layer.weight], layer.axis, layer.bits)
        covered[layer.node] = span
    harm: Mapping[str, float] = document["variants"][target].get("harm", {})
    whole = sum(harm.values())
    readers = Counter(
        [*(layer.input for layer in placement.layers), *(shortcut for _, shortcut in placement.sums)]
    )
    views = []
    for node in graph.nodes:
        if node.name in layers:
            entry = layers[node.name].input
            seen = observer("", document["tensors"][entry])
            span, ratio = covered[node.name], noise[node.name]
            views.append(
                LayerView(
                    node=node.name,
                    op=node.op_type,
                    precision="int8",
                    rule=None,
                    low=span.low,
                    high=span.high,
                    clipped=100 * clipped_share(seen.counts, seen.edges, span.low, span.high),
                    sqnr=-10 * math.log10(ratio) if ratio else None,
                    loss=100 * harm[entry] / whole / readers[entry] if whole else None,
                )
            )
        elif node.op_type in WEIGHTED:
            views.append(LayerView(node.name, node.op_type, "float", reasons.get(node.name)))
    return tuple(views)


def observer(name: str, tensor: Mapping[str, Any]) -> Observer:
    """Return what was seen of a tensor, from its entry in calibration.json."""
    counts = np.array(tensor["counts"].split(), np.int64)
    every = np.zeros(2 * BINS, np.int64)
    every[tensor["first"] + BINS : tensor["first"] + BINS + len(counts)] = counts
    number, mean = tensor["count"], tensor["mean"]
    return Observer(
        name,
        every,
        tensor["exponent"],
        tensor["minimum"],
        tensor["maximum"],
        number,
        mean * number,
        (tensor["std"] ** 2 + mean**2) * number,
    )


def clipped_share(counts: NDArray[np.int64], edges: NDArray[np.float64], low: float, high: float) -> float:
    """Return the share of values that lie more than half a step outside of [low, high], and are cut off."""
    half = (high - low) / 510
    inside = (edges[1:] >= low - half) & (edges[:-1] <= high + half)
    return float(counts[~inside].sum() / max(counts.sum(), 1))
