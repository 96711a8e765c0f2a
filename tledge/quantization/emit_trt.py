"""The `int8` variant: explicit quantisation as TensorRT's builder wants it.

Signed, symmetric, zero point 0; Q/DQ on the inputs of operators only, so that a convolution, its bias, its
activation and a residual sum still fuse; weights as INT8 constants with DQ, a scale for each output channel;
biases float (an INT32 bias does not parse). What is not INT8 becomes float16 by explicit casts afterwards
(`tledge.quantization.fp16`); scales and the graph's own input and output stay float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tledge.quantization.graph import Graph, copy, replace_nodes
from tledge.quantization.placement import Placement
from tledge.quantization.qdq import Correction, Emitter, shared, symmetric, weights
from tledge.quantization.ranges import Range

if TYPE_CHECKING:
    from onnx import ModelProto


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
    scales = {name: symmetric(found) for name, found in shared(ranges, placement).items()}
    # Only what an INT8 operator reads is quantised: other members of a group need no Q/DQ here, as the
    # builder moves it through what only moves values.
    wanted = {layer.input for layer in placement.layers} | set(shortcuts.values())
    back: dict[str, str] = {}

    def after(tensor: str) -> None:
        if tensor in wanted:
            back[tensor] = writer.quantise(tensor, scales[tensor], np.int8)

    after(graph.input)
    for node in graph.nodes:
        correction = mended.get(node.name)
        if node.name in layers:
            layer = layers[node.name]
            node.input[0] = back[layer.input]
            gain = correction.gain if correction else 1.0
            integers, steps = weights(graph.constants[layer.weight], layer.axis, gain=gain)
            node.input[1] = writer.dequantise(f"{layer.node}.weight", integers, steps, layer.axis)
            if correction and node.op_type != "MatMul":
                writer.set_bias(node, writer.constant(f"{layer.node}.bias.float", correction.bias))
        elif node.name in shortcuts:
            index = list(node.input).index(shortcuts[node.name])
            node.input[index] = back[shortcuts[node.name]]
        writer.nodes.append(node)
        for output in node.output:
            after(output)
    replace_nodes(fresh, writer.nodes)
    return fresh
