"""Cross-layer equalisation: a channel far larger than the others is made smaller; the next layer undoes it.

One scale for a whole tensor leaves its small channels few steps. Between two layers with nothing or a Relu in
between, channel c can be multiplied by any factor, in the weights and bias of the layer that makes it, and
divided by it in those of the layer that reads it: the network is the same (M. Nagel et al., "Data-free
quantization through weight equalization and bias correction", arXiv 1906.04721). Weights of the maker have a
scale for each of its channels, so that it costs them nothing; nor does it those of a depthwise reader. Other
readers have the channels side by side in one scale, so that activations and weights meet halfway.

Factors are powers of two: the float network gives the same answers to the last bit. A Clip at 6 would have to
become one of each channel, or cut off what it did not before, and rare large values are what tells classes
apart: on MobileNetV2 clipping channels at what 96 images reached doubled the error. It is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tledge.quantization.graph import Graph, attributes, copy, replace_nodes, session, with_outputs
from tledge.quantization.images import BATCH
from tledge.quantization.placement import Layer

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Factors = Mapping[str, NDArray[np.float32]]

# Between the largest and the smallest factor of a tensor; below it less than three bits are to be won.
WORTH = 8
LARGEST = 2.0**12  # far from where float16, which what is not INT8 becomes, has no values left


def factors(
    model: ModelProto, layers: Sequence[Layer], images: NDArray[np.float32], *, threads: int
) -> dict[str, NDArray[np.float32]]:
    """Return what each channel of a tensor is to be multiplied by, for the tensors where it is worth it.

    Args:
        model: The float network, simplified.
        layers: Its layers in INT8.
        images: Input tensors that show how large channels are.
        threads: Threads of one inference.
    """
    graph = Graph(model)
    readers = {layer.input: layer for layer in layers}
    made = {name: pair for name in readers if (pair := _pair(graph, name, {one.node for one in layers}))}
    if not made:
        return {}
    opened = session(with_outputs(model, made), threads)
    largest: dict[str, NDArray[np.float32]] = {}
    for start in range(0, len(images), BATCH):
        values = opened.run(list(made), {graph.input: images[start : start + BATCH]})
        for name, value in zip(made, values, strict=True):
            seen = np.abs(value).max(axis=(0, 2, 3))
            largest[name] = np.maximum(largest.get(name, seen), seen)
    found = {}
    for name, (_, reader) in made.items():
        weight = graph.constants[reader.input[1]]
        alone = weight.shape[1] == 1
        # A depthwise reader has a scale for each channel: its weights say nothing.
        column = np.ones(len(weight)) if alone else np.abs(weight).max(axis=(0, 2, 3))
        alive = (largest[name] > 0) & (column > 0)
        if not alive.any():
            continue
        ratio = column[alive] / largest[name][alive]
        power = np.log2(ratio) * (1.0 if alone else 0.5)
        powers = np.zeros(len(column))
        powers[alive] = np.round(power - np.median(power))
        limit = np.log2(LARGEST)
        powers = np.clip(powers, -limit, limit)
        if powers.max() - powers.min() >= np.log2(WORTH):
            found[name] = np.exp2(powers).astype(np.float32)
    return found


def _pair(graph: Graph, tensor: str, layers: set[str]) -> tuple[NodeProto, NodeProto] | None:
    """Return the convolutions that alone make and read `tensor`, with nothing or a Relu in between."""
    reader, maker = graph.only_reader(tensor), graph.makers.get(tensor)
    if maker is not None and maker.op_type == "Relu":
        maker = graph.makers.get(maker.input[0]) if graph.only_reader(maker.input[0]) else None
    if maker is None or reader is None or {maker.op_type, reader.op_type} != {"Conv"}:
        return None
    known = all(name in graph.constants for node in (maker, reader) for name in node.input[1:] if name)
    if not known or not {maker.name, reader.name} <= layers or reader.input[0] != tensor:
        return None
    weight, groups = graph.constants[reader.input[1]], int(attributes(reader).get("group", 1))
    return (maker, reader) if weight.ndim == 4 and (groups == 1 or weight.shape[1] == 1) else None


def apply(model: ModelProto, found: Factors) -> ModelProto:
    """Return the same float network with the channels of each tensor of `found` multiplied by its factors."""
    from onnx import numpy_helper

    fresh = copy(model)
    graph = Graph(fresh)
    values = dict(graph.constants)

    def scale(node: NodeProto, index: int, by: NDArray[Any]) -> None:
        name = f"{node.name}.{('weight', 'bias')[index - 1]}.equalised"
        array = (values[node.input[index]] * by).astype(np.float32)
        values[name] = array
        old = next((t for t in fresh.graph.initializer if t.name == name), None)
        if old is None:
            fresh.graph.initializer.append(numpy_helper.from_array(array, name))
        else:
            old.CopyFrom(numpy_helper.from_array(array, name))
        node.input[index] = name

    for tensor, by in found.items():
        reader, maker = graph.readers[tensor][0], graph.makers[tensor]
        maker = graph.makers[maker.input[0]] if maker.op_type == "Relu" else maker
        scale(maker, 1, by.reshape(-1, 1, 1, 1))
        if len(maker.input) > 2 and maker.input[2]:
            scale(maker, 2, by)
        alone = values[reader.input[1]].shape[1] == 1
        scale(reader, 1, 1 / by.reshape((-1, 1, 1, 1) if alone else (1, -1, 1, 1)))
    replace_nodes(fresh, list(fresh.graph.node))
    return fresh
