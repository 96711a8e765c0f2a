"""The `int8` variant: explicit quantisation as TensorRT's builder wants it.

Signed, symmetric, zero point 0; Q/DQ on the inputs of operators only, so that a convolution, its bias, its
activation and a residual sum still fuse; weights as INT8 constants with DQ, a scale for each output channel;
biases float (an INT32 bias does not parse). What is not INT8 becomes float16 by explicit casts afterwards
(`tledge.quantization.fp16`); scales and the graph's own input and output stay float32.

What comes out of a Clip at zero, as in ReLU6, would use only 127 of the 255 steps. Where the placement says
so (`centred`), the convolution before it is given a bias lower by half the range, the Clip bounds of minus
and plus that half, and the convolutions that read it a bias higher by half the range times the sum of their
weights: the same network with as many operators, and twice the steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tledge.quantization.graph import Graph, copy, replace_nodes
from tledge.quantization.placement import Placement
from tledge.quantization.qdq import Correction, Emitter, Scale, along, shared, symmetric, weights
from tledge.quantization.ranges import Range

if TYPE_CHECKING:
    from onnx import ModelProto


def scales(placement: Placement, ranges: Mapping[str, Range]) -> tuple[dict[str, float], dict[str, Scale]]:
    """Return what is subtracted from each centred tensor, and the scale of each tensor of the placement."""
    halves = {name: max(ranges[name].high, 0.0) / 2 for name in placement.centred}
    found = {name: symmetric(one) for name, one in shared(ranges, placement).items()}
    return halves, found | {name: symmetric(Range(-half, half)) for name, half in halves.items()}


def emit(
    model: ModelProto,
    placement: Placement,
    ranges: Mapping[str, Range],
    corrections: Mapping[str, Correction] | None = None,
) -> ModelProto:
    """Return the Q/DQ graph, in float32 where it is not INT8.

    Args:
        model: The float network, simplified.
        placement: What is INT8, for the target "int8".
        ranges: The range of each tensor of the placement.
        corrections: For layers by node name, what is mended (see `tledge.quantization.bias`).
    """
    fresh = copy(model)
    graph = Graph(fresh)
    writer = Emitter(fresh)
    mended = corrections or {}
    layers = {layer.node: layer for layer in placement.layers}
    shortcuts = dict(placement.sums)
    halves, scale_of = scales(placement, ranges)
    before = {graph.makers[graph.makers[name].input[0]].name: half for name, half in halves.items()}
    # Only what an INT8 operator reads is quantised: other members of a group need no Q/DQ here, as the
    # builder moves it through what only moves values.
    wanted = {layer.input for layer in placement.layers} | set(shortcuts.values())
    back: dict[str, str] = {}

    def after(tensor: str) -> None:
        if tensor in wanted:
            back[tensor] = writer.quantise(tensor, scale_of[tensor], np.int8)

    after(graph.input)
    for node in graph.nodes:
        correction = mended.get(node.name) if node.name in layers else None
        shift: NDArray[np.float64] | float = -before.get(node.name, 0.0)
        if node.name in layers:
            layer = layers[node.name]
            node.input[0] = back[layer.input]
            gain, offsets = (correction.gain, correction.offsets) if correction else (1.0, None)
            integers, steps = weights(graph.constants[layer.weight], layer.axis, gain=gain, offsets=offsets)
            node.input[1] = writer.dequantise(f"{layer.node}.weight", integers, steps, layer.axis)
            if layer.input in halves:
                real = integers * along(steps, layer.axis, integers.ndim)
                shift = shift + halves[layer.input] * real.reshape(len(real), -1).sum(axis=1)
        elif node.name in shortcuts:
            index = list(node.input).index(shortcuts[node.name])
            node.input[index] = back[shortcuts[node.name]]
        elif node.op_type == "Clip" and node.output[0] in halves:
            half = np.float32(halves[node.output[0]])
            node.input[1] = writer.constant(f"{node.output[0]}.centred.low", -half)
            node.input[2] = writer.constant(f"{node.output[0]}.centred.high", half)
        if node.op_type != "MatMul" and (correction or np.any(shift)):
            own = graph.constants[node.input[2]] if len(node.input) > 2 else np.float32(0)
            moved = (correction.bias if correction else own).astype(np.float64) + shift
            writer.set_bias(node, writer.constant(f"{node.name}.bias.float", moved.astype(np.float32)))
        writer.nodes.append(node)
        for output in node.output:
            after(output)
    replace_nodes(fresh, writer.nodes)
    return fresh
