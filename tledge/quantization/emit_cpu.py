"""The `int8-cpu` variant: Q/DQ as ONNX Runtime and OpenVINO fuse it into INT8 kernels on x86.

Unsigned activations with a zero point (VNNI multiplies unsigned by signed bytes), signed weights with a scale
for each output channel (in 7 bits where sums would saturate, see `tledge.quantization.narrow`), INT32 biases
(scale of the input times scale of the weight), and Q/DQ on every output, without which ONNX Runtime makes no
QLinearConv of a convolution. A Relu or Clip at zero after a quantised operator is left out: saturation to
[0, 255] is what it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tledge.quantization.graph import Graph, copy, replace_nodes
from tledge.quantization.placement import Layer, Placement
from tledge.quantization.qdq import Correction, Emitter, Scale, asymmetric, shared, weights
from tledge.quantization.ranges import Range
from tledge.quantization.rules import PASSING

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

# Integers of a bias are kept this far inside INT32, so that it and the sum of products fit together.
LARGEST_BIAS = 2**30


def emit(
    model: ModelProto,
    placement: Placement,
    ranges: Mapping[str, Range],
    corrections: Mapping[str, Correction] | None = None,
) -> ModelProto:
    """Return the Q/DQ graph. Arguments as for `emit_trt.emit`, for the target "int8-cpu"."""
    fresh = copy(model)
    absorb(fresh, placement)
    graph = Graph(fresh)
    writer = Emitter(fresh)
    mended = corrections or {}
    layers = {layer.node: layer for layer in placement.layers}
    sums = {name for name, _ in placement.sums}
    grouped = {name for group in placement.groups for name in group}
    scales = {name: asymmetric(found) for name, found in shared(ranges, placement).items()}
    integral = {
        node.name
        for node in graph.nodes
        if node.name in layers
        or node.name in sums
        or (node.op_type in PASSING and node.output[0] in grouped and node.input[0] in grouped)
    }
    back: dict[str, str] = {}

    def after(tensor: str) -> None:
        if tensor in scales:
            back[tensor] = writer.quantise(tensor, scales[tensor], np.uint8)

    after(graph.input)
    for node in graph.nodes:
        for index, name in enumerate(node.input):
            maker = graph.makers.get(name)
            # What only a float operator makes is read in float by the other float operators.
            if name in back and (node.name in integral or (maker is not None and maker.name in integral)):
                node.input[index] = back[name]
        if node.name in layers:
            layer = layers[node.name]
            _write(writer, node, layer, graph, entry=scales[layer.input], correction=mended.get(node.name))
        writer.nodes.append(node)
        for output in node.output:
            after(output)
    replace_nodes(fresh, writer.nodes)
    return fresh


def absorb(model: ModelProto, placement: Placement) -> None:
    """Leave out the activations that saturation makes superfluous."""
    graph = Graph(model)
    gone = set(placement.absorbed)
    for node in graph.nodes:
        if node.name in gone:
            graph.makers[node.input[0]].output[0] = node.output[0]
    replace_nodes(model, [node for node in graph.nodes if node.name not in gone])


def _write(
    writer: Emitter,
    node: NodeProto,
    layer: Layer,
    graph: Graph,
    *,
    entry: Scale,
    correction: Correction | None,
) -> None:
    gain: NDArray[np.float32] | float = 1.0
    bias = None if layer.bias is None else graph.constants[layer.bias]
    offsets = None
    if correction is not None:
        gain, bias, offsets = correction.gain, correction.bias, correction.offsets
    if node.op_type == "MatMul":
        bias = None
    # A dead channel may have a bias far larger than its weights: its scale is raised until the bias fits.
    least = 0.0 if bias is None else np.abs(bias.astype(np.float64)) / (entry.scale * LARGEST_BIAS)
    integers, steps = weights(
        graph.constants[layer.weight], layer.axis, least, gain, offsets, bits=layer.bits
    )
    node.input[1] = writer.dequantise(f"{layer.node}.weight", integers, steps, layer.axis)
    if bias is not None:
        scale = np.float32(entry.scale) * steps
        rounded = np.round(bias.astype(np.float64) / scale.astype(np.float64)).astype(np.int32)
        writer.set_bias(node, writer.dequantise(f"{layer.node}.bias", rounded, scale, 0))
