"""How much of the loss each tensor's rounding makes: the KL of the network with that tensor alone in INT8.

Errors of different tensors hardly meet: their shares add up to about the whole. The float network is walked
once; at each tensor what is left of it is run from there, with the tensor rounded and the weights of the
layers that read it as INT8 has them. No Q/DQ is run, and what comes before is not run again, so that the
ranking of all costs about as much as a dozen runs of the quantised network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from tledge.evaluation.paired import mean_kl
from tledge.progress import Progress
from tledge.quantization import emit_trt
from tledge.quantization.bias import real_weights
from tledge.quantization.build import Network, Tune
from tledge.quantization.graph import Graph
from tledge.quantization.placement import Placement
from tledge.quantization.qdq import Correction, Scale, asymmetric, shared
from tledge.quantization.ranges import Range
from tledge.quantization.walk import Walk

# Tune images that harm is judged on, as only the order of the tensors matters; half where it is only told.
JUDGED, TOLD = 16, 8

Array = NDArray[np.float32]


def harms(
    network: Network,
    placement: Placement,
    ranges: Mapping[str, Range],
    corrections: Mapping[str, Correction],
    tune: Tune,
    *,
    count: int = JUDGED,
    threads: int,
    progress: Progress,
) -> dict[str, float]:
    """Return for each tensor that INT8 operators read the mean KL, in nats, that its rounding alone makes.

    Args:
        network: The float network.
        placement: What is INT8.
        ranges: Of its tensors.
        corrections: What is mended in its layers, by node.
        tune: Images; the first `count` are taken.
        count: How many.
        threads: Threads of one inference.
        progress: Where to show how far it is.
    """
    graph = Graph(network.model)
    place = {node.name: index for index, node in enumerate(graph.nodes)}
    reading: dict[str, list[str]] = {}
    for layer in placement.layers:
        reading.setdefault(layer.input, []).append(layer.node)
    for node, shortcut in placement.sums:
        reading.setdefault(shortcut, []).append(node)
    layers = {layer.node: layer for layer in placement.layers}
    image = _images(placement, ranges)
    walk = Walk(network.model, tune.tensors[:count], threads)
    found: dict[str, float] = {}
    with progress.task(f"ranking {placement.target}", total=len(reading), unit="tensors") as task:
        for tensor, nodes in sorted(reading.items(), key=lambda pair: min(place[node] for node in pair[1])):
            values = walk.before(min(nodes, key=place.__getitem__), tensor)
            constants: dict[str, Array] = {}
            for node in nodes:
                if node in layers:
                    layer, mended = layers[node], corrections.get(node)
                    gain, offsets = (mended.gain, mended.offsets) if mended else (1.0, None)
                    constants[layer.weight] = real_weights(graph, layer, offsets, gain)
                    if mended and layer.bias is not None:
                        constants[layer.bias] = mended.bias
            rounded = {tensor: [image[tensor](batch) for batch in values]}
            logits = np.concatenate(walk.finish(rounded, constants, graph.outputs[0]))
            found[tensor] = mean_kl(tune.logits[:count], logits.reshape(len(logits), -1))
            task.advance()
    return found


def _images(placement: Placement, ranges: Mapping[str, Range]) -> dict[str, Callable[[Array], Array]]:
    """Return for each tensor what makes of its values those that INT8 tells apart."""
    if placement.target == "int8":
        halves, scales = emit_trt.scales(placement, ranges)
        return {name: _image(scale, halves.get(name, 0.0), -127, 127) for name, scale in scales.items()}
    found = shared(ranges, placement)
    return {name: _image(asymmetric(one), 0.0, 0, 255) for name, one in found.items()}


def _image(scale: Scale, middle: float, least: int, most: int) -> Callable[[Array], Array]:
    step, half, low, high = np.float32(scale.scale), np.float32(middle), least, most

    def image(values: Array) -> Array:
        integers = np.rint((values - half) / step) + np.float32(scale.zero_point)
        result: Array = (np.clip(integers, low, high) - np.float32(scale.zero_point)) * step + half
        return result

    return image
