"""Which tensors become INT8, by the written rules of `tledge.quantization.rules`.

A placement says what is to be quantised; `emit_trt` and `emit_cpu` write it in the form that each reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tledge.quantization import narrow
from tledge.quantization.centring import can_be_centred
from tledge.quantization.graph import Graph, attributes
from tledge.quantization.qdq import Bits
from tledge.quantization.rules import PASSING, RULES, WEIGHTED, Target

if TYPE_CHECKING:
    from onnx import NodeProto


@dataclass(frozen=True)
class Layer:
    """A weighted operator in INT8. `axis` is the weight's axis of output channels.

    `result` is the tensor after the Relu or Clip named `activation` that quantisation can absorb, else
    `output` itself. `bits` are those of its weights (see `tledge.quantization.narrow`).
    """

    node: str
    op: str
    input: str
    weight: str
    bias: str | None
    output: str
    axis: int
    activation: str | None
    result: str
    bits: Bits


@dataclass(frozen=True)
class Decision:
    """What the rules say of one node."""

    node: str
    op: str
    int8: bool
    rule: str


@dataclass(frozen=True)
class Placement:
    """What one target quantises.

    `layers` and `sums` (residual additions: node, shortcut tensor) are INT8; `tensors` are the activations
    that get a scale, in graph order; `groups` are sets of them that share one scale; `absorbed` names the
    Relu and Clip nodes that are left out because saturation does their work (int8-cpu); `centred` are those
    of the tensors whose middle is moved to zero, which doubles their steps (int8). `bits` is what weights
    have where a rule of `tledge.quantization.narrow` speaks for them (int8-cpu).
    """

    target: Target
    layers: tuple[Layer, ...]
    sums: tuple[tuple[str, str], ...]
    tensors: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    absorbed: tuple[str, ...]
    centred: tuple[str, ...]
    decisions: tuple[Decision, ...]
    bits: Bits = 8


def place(graph: Graph, target: Target, floating: frozenset[str] = frozenset(), bits: Bits = 8) -> Placement:
    """Return what is INT8 for `target`.

    Nodes named in `floating` stay float whatever the rules say. `bits` 7 is for `int8-cpu` on processors
    whose sums saturate; `int8` knows no such thing.
    """
    bits = bits if target == "int8-cpu" else 8
    decisions: list[Decision] = []
    layers: list[Layer] = []
    additions: list[NodeProto] = []
    for node in graph.nodes:
        rule = next(rule for rule in RULES if target in rule.targets and rule.fits(graph, node))
        int8 = rule.int8 and node.name not in floating
        decisions.append(Decision(node.name, node.op_type, int8, rule.name if int8 == rule.int8 else "asked"))
        if int8 and node.op_type in WEIGHTED:
            layers.append(_layer(graph, node, bits))
        elif int8 and rule.name == "residual":
            additions.append(node)
    tensors = [layer.input for layer in layers]
    absorbed: list[str | None] = []
    if target == "int8":
        sums = [(node.name, _shortcut(graph, node)) for node in additions]
        tensors += [name for _, name in sums]
    else:
        tensors += [layer.result for layer in layers if layer.result not in graph.outputs]
        # A sum is worth quantising only where what it adds is INT8 anyway.
        additions = _closed(graph, additions, set(tensors))
        sums = [(node.name, _shortcut(graph, node)) for node in additions]
        after = [_absorbed(graph, node.output[0]) for node in additions]
        tensors += [name for node in additions for name in node.input] + [result for _, result in after]
        absorbed = [layer.activation for layer in layers if layer.result not in graph.outputs]
        absorbed += [name for name, _ in after]
    order = {graph.input: -1} | {n: i for i, node in enumerate(graph.nodes) for n in node.output}
    groups = _groups(graph, set(tensors))
    tensors += [name for group in groups for name in group]
    unique = sorted(set(tensors), key=lambda name: order[name])
    gone = tuple(name for name in absorbed if name is not None)
    held = {name for _, name in sums}.union(*groups)
    centred: tuple[str, ...] = ()
    if target == "int8":
        inside = {layer.node for layer in layers}
        centred = tuple(name for name in unique if name not in held and can_be_centred(graph, name, inside))
    parts = (tuple(layers), tuple(sums), tuple(unique), groups, gone, centred, tuple(decisions))
    return Placement(target, *parts, bits)


def _layer(graph: Graph, node: NodeProto, bits: Bits) -> Layer:
    bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
    axis = 0 if node.op_type == "Conv" or attributes(node).get("transB", 0) else 1
    activation, result = _absorbed(graph, node.output[0])
    parts = (node.name, node.op_type, node.input[0], node.input[1], bias, node.output[0], axis)
    return Layer(*parts, activation, result, narrow.of_layer(graph, node, bits))


def _absorbed(graph: Graph, tensor: str) -> tuple[str | None, str]:
    """Return the Relu or Clip at zero that alone reads `tensor`, and its result: saturation does its work."""
    reader = graph.only_reader(tensor)
    if reader is None or reader.op_type not in ("Relu", "Clip"):
        return None, tensor
    if reader.op_type == "Clip":
        low = graph.constants.get(reader.input[1]) if len(reader.input) > 1 else None
        if low is None or float(low) != 0.0:
            return None, tensor
    return reader.name, reader.output[0]


def _shortcut(graph: Graph, node: NodeProto) -> str:
    """Return the input of a residual sum that does not come out of a weighted operator, or comes earlier."""

    def rank(name: str) -> tuple[bool, int]:
        maker = graph.makers.get(name)
        return maker is not None and maker.op_type in WEIGHTED, graph.depths.get(name, 0)

    return str(min(node.input, key=rank))


def _closed(graph: Graph, additions: list[NodeProto], known: set[str]) -> list[NodeProto]:
    """Return the additions all of whose inputs are quantised; they come in graph order."""
    kept = []
    for node in additions:
        result = _absorbed(graph, node.output[0])[1]
        if all(name in known for name in node.input) and result not in graph.outputs:
            kept.append(node)
            known.add(result)
    return kept


def _groups(graph: Graph, tensors: set[str]) -> tuple[tuple[str, ...], ...]:
    """Return the sets of tensors that must share one scale: both sides of what only moves values."""
    group = {name: {name} for name in tensors}
    for node in graph.nodes:
        if node.op_type not in PASSING:
            continue
        data = node.input if node.op_type == "Concat" else node.input[:1]
        if any(name in graph.constants for name in data) or node.output[0] in graph.outputs:
            continue
        touched = [name for name in data if name in group]
        # Through: a moved tensor is INT8 if all that is moved into it is, and somebody reads it in INT8.
        if len(touched) != len(data) or (node.output[0] not in group and node.op_type != "Concat"):
            continue
        merged = set().union(*(group[name] for name in touched), group.get(node.output[0], {node.output[0]}))
        for name in merged:
            group[name] = merged
    distinct = {id(members): members for members in group.values() if len(members) > 1}
    return tuple(sorted(tuple(sorted(members)) for members in distinct.values()))
