"""Float16 written in the graph: which operators compute in it, with explicit casts where it begins and ends.

The graph's own input and output stay float32, as do scales, and operators that overflow or lose their sums in
half precision.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from tledge.quantization.graph import Graph, copy, replace_nodes
from tledge.quantization.rules import FLOAT, PASSING, WEIGHTED

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

LARGEST = float(np.finfo(np.float16).max)  # 65504
# A tensor that calibration saw this near the end of float16 is kept in float32: other images may go further.
SAFETY = 4.0

# Operator: why it stays in float32.
KEPT = {
    "Exp": "exceeds 65504 for inputs above 11",
    "Pow": "squares of values above 255 overflow",
    "Softmax": "exponentials, and a sum of many",
    "LogSoftmax": "exponentials, and a sum of many",
    "ReduceMean": "a sum of many values may overflow before it is divided",
    "ReduceSum": "a sum of many values may overflow",
    "ReduceL2": "squares overflow",
    "GlobalAveragePool": "a sum of many values may overflow before it is divided",
    "LayerNormalization": "squares overflow, and a variance of small values underflows",
    "InstanceNormalization": "squares overflow, and a variance of small values underflows",
    "GroupNormalization": "squares overflow, and a variance of small values underflows",
    "BatchNormalization": "the root of a small variance loses its digits",
    "Sqrt": "its argument may underflow to zero, and is then divided by",
    "Reciprocal": "exceeds 65504 for inputs below 2e-5",
    "Div": "exceeds 65504 for small divisors",
    "Resize": "its scales must be float32",
    "QuantizeLinear": "float16 scales underflow, and break builders (see docs/int8.md)",
    "DequantizeLinear": "float16 scales underflow, and break builders (see docs/int8.md)",
}  # fmt: skip
HALVED = frozenset((*WEIGHTED, *PASSING, *FLOAT)) - KEPT.keys()


def convert(model: ModelProto, large: Collection[str] = ()) -> ModelProto:
    """Return the network in float16 where that is safe, with float32 input and output.

    Args:
        model: The float32 network, with or without Q/DQ.
        large: Tensors whose values come near 65504: what makes or reads them stays in float32.
    """
    from onnx import TensorProto, numpy_helper

    fresh = copy(model)
    graph = Graph(fresh)
    floats = {name for name, (kind, _) in graph.types.items() if kind == TensorProto.FLOAT}
    outside = set(large)
    halves: set[str] = set()  # tensors that are float16 now
    nodes: list[NodeProto] = []
    casts: dict[tuple[str, int], str] = {}
    types = {np.float16: TensorProto.FLOAT16, np.float32: TensorProto.FLOAT}

    def as_type(tensor: str, kind: type[np.float16] | type[np.float32]) -> str:
        """Return the name under which a float tensor is known in float16 or float32."""
        if tensor in graph.constants:
            if kind is np.float32:
                return tensor
            name = f"{tensor}.half"
            if (name, 0) not in casts:
                casts[name, 0] = name
                half = graph.constants[tensor].astype(np.float16)
                fresh.graph.initializer.append(numpy_helper.from_array(half, name))
            return name
        if (tensor in halves) == (kind is np.float16):
            return tensor
        return _cast(nodes, casts, tensor, types[kind])

    for node in graph.nodes:
        half = node.op_type in HALVED and _fits(graph, node, outside, floats)
        for index, name in enumerate(node.input):
            if name in floats:
                # The limits of Clip and the like are floats too; indices and axes are not in `floats`.
                node.input[index] = as_type(name, np.float16 if half else np.float32)
        nodes.append(node)
        if half:
            halves.update(name for name in node.output if name in floats)
    for value in fresh.graph.output:
        if value.name in halves:
            inner = f"{value.name}.half"
            for node in nodes:
                node.output[:] = [inner if name == value.name else name for name in node.output]
                node.input[:] = [inner if name == value.name else name for name in node.input]
            _cast(nodes, {}, inner, TensorProto.FLOAT, value.name)
    replace_nodes(fresh, nodes)
    del fresh.graph.value_info[:]
    return fresh


def _fits(graph: Graph, node: NodeProto, outside: set[str], floats: set[str]) -> bool:
    for name in (*node.input, *node.output):
        if name in outside:
            return False
        constant = graph.constants.get(name)
        if constant is not None and constant.dtype == np.float32 and constant.size:
            finite = constant[np.isfinite(constant)]
            if node.op_type in WEIGHTED and finite.size and np.abs(finite).max() > LARGEST / SAFETY:
                return False
    return any(name in floats for name in node.output)


def _cast(
    nodes: list[NodeProto], casts: dict[tuple[str, int], str], tensor: str, kind: int, name: str = ""
) -> str:
    from onnx import TensorProto, helper

    if (tensor, kind) not in casts:
        made = name or f"{tensor}.{'half' if kind == TensorProto.FLOAT16 else 'float'}"
        nodes.append(helper.make_node("Cast", [tensor], [made], name=made, to=kind))
        casts[tensor, kind] = made
    return casts[tensor, kind]
