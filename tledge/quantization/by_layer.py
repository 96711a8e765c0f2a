"""Which of several ranges each tensor gets: the one with which the layer that reads it errs least, on tune.

All are tried in one pass: beside each layer of the float network stand copies of it that read the rounding
errors of its input alone, one for each range. A convolution is linear, so that its output's error is what it
makes of the input's. Only the sums of squares leave the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tledge.quantization.graph import Graph, copy, session, with_outputs
from tledge.quantization.images import BATCH
from tledge.quantization.placement import Placement
from tledge.quantization.qdq import Emitter, asymmetric, symmetric
from tledge.quantization.ranges import Range

# Images that ranges are judged on: each has hundreds of positions.
JUDGED = 16

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


def choose(
    model: ModelProto,
    placement: Placement,
    candidates: Sequence[Mapping[str, Range]],
    images: NDArray[np.float32],
    *,
    threads: int,
) -> dict[str, Range]:
    """Return for each tensor of the placement the range of least error among the candidates'.

    A tensor that no layer reads is judged by its own error. Of equal ones the first is taken.

    Args:
        model: The float network, simplified.
        placement: What is INT8.
        candidates: Ranges of all its tensors, by one method each.
        images: Input tensors of tune; the first few are taken.
        threads: Threads of one inference.
    """
    chosen = {name: candidates[0][name] for name in placement.tensors}
    options = {name: list(dict.fromkeys(one[name] for one in candidates)) for name in placement.tensors}
    open_ones = {name: found for name, found in options.items() if len(found) > 1}
    if not open_ones:
        return chosen
    measured, outputs = _with_errors(model, placement, open_ones)
    opened = session(with_outputs(measured, outputs), threads)
    input_name = opened.get_inputs()[0].name
    sums = np.zeros(len(outputs))
    for start in range(0, min(len(images), JUDGED), BATCH):
        found = opened.run(outputs, {input_name: images[start : start + BATCH]})
        sums += [float(value) for value in found]
    errors = dict(zip(outputs, sums, strict=True))
    for tensor, found_ranges in open_ones.items():
        totals = [
            sum(value for name, value in errors.items() if name.startswith(f"{tensor}.range{index}."))
            for index in range(len(found_ranges))
        ]
        chosen[tensor] = found_ranges[int(np.argmin(totals))]
    return chosen


def _with_errors(
    model: ModelProto, placement: Placement, options: Mapping[str, Sequence[Range]]
) -> tuple[ModelProto, list[str]]:
    """Return the network with the layers' copies, and the names of the sums of their squared errors."""
    fresh = copy(model)
    graph, writer = Graph(fresh), Emitter(fresh)
    nodes = {node.name: node for node in graph.nodes}
    signed = placement.target == "int8"
    outputs: list[str] = []

    def add(tensor: str) -> None:
        readers = [layer.node for layer in placement.layers if layer.input == tensor]
        for index, found in enumerate(options.get(tensor, ())):
            name = f"{tensor}.range{index}"
            same = writer.node("Identity", [tensor], f"{name}.same")
            if signed and tensor not in placement.centred:
                image = writer.quantise(same, symmetric(found), np.int8)
            else:
                image = writer.quantise(same, asymmetric(found), np.uint8)
            error = writer.node("Sub", [image, tensor], f"{name}.error")
            made = [_copy(writer, nodes[reader], error, f"{name}.{reader}") for reader in readers]
            for result in made or [error]:
                outputs.append(writer.node("ReduceSumSquare", [result], f"{result}.sum", keepdims=0))

    add(graph.input)
    for node in graph.nodes:
        writer.nodes.append(node)
        for output in node.output:
            add(output)
    del fresh.graph.node[:]
    fresh.graph.node.extend(writer.nodes)
    return fresh, outputs


def _copy(writer: Emitter, node: NodeProto, entry: str, output: str) -> str:
    """Add the layer without its bias, reading `entry`."""
    from onnx import NodeProto as Node

    fresh = Node()
    fresh.CopyFrom(node)
    fresh.name = output
    del fresh.input[:]
    fresh.input.extend([entry, node.input[1]])
    fresh.output[0] = output
    writer.nodes.append(fresh)
    return output
