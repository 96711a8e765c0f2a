"""Which tensors become INT8, by written rules. The rules are data: the first one that fits a node decides.

A placement says what is to be quantised; `emit_trt` and `emit_cpu` write it in the form that each reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tledge.quantization import narrow
from tledge.quantization.centring import can_be_centred
from tledge.quantization.graph import Graph, attributes
from tledge.quantization.qdq import Bits

if TYPE_CHECKING:
    from onnx import NodeProto

Target = Literal["int8", "int8-cpu"]
TARGETS: tuple[Target, ...] = ("int8", "int8-cpu")

WEIGHTED = ("Conv", "Gemm", "MatMul")
# Operators that hand values on unchanged: INT8 passes through them with one scale.
PASSING = ("MaxPool", "Concat", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice")
FLOAT = (
    *("ReduceMean", "GlobalAveragePool", "AveragePool", "GlobalMaxPool", "Mul", "Sub", "Div", "Pow", "Sqrt"),
    *("Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Erf", "Gelu", "Exp", "Relu", "Clip", "LeakyRelu"),
    *("PRelu", "Elu", "Softplus", "Mish", "BatchNormalization", "InstanceNormalization", "Pad", "Resize"),
    *("Softmax", "LogSoftmax", "LayerNormalization", "ReduceSum", "Max", "Min", "Neg", "Abs", "Reciprocal"),
    *("Add", "Conv", "Gemm", "MatMul", "ConvTranspose", "Swish"),
)
NO_VALUES = (
    *("Shape", "Gather", "Cast", "Constant", "ConstantOfShape", "Expand", "Where", "Equal", "Range", "Split"),
)


@dataclass(frozen=True)
class Rule:
    """One rule: for which target and nodes it speaks, whether they become INT8, and why."""

    name: str
    targets: tuple[Target, ...]
    int8: bool
    fits: Callable[[Graph, NodeProto], bool]
    reason: str
    source: str


def _weighted(graph: Graph, node: NodeProto) -> bool:
    return node.op_type in WEIGHTED


def _variable_weight(graph: Graph, node: NodeProto) -> bool:
    return node.op_type in WEIGHTED and node.input[1] not in graph.constants


def _odd_gemm(graph: Graph, node: NodeProto) -> bool:
    if node.op_type != "Gemm":
        return node.op_type == "MatMul" and graph.constants[node.input[1]].ndim != 2
    given = attributes(node)
    plain = given.get("alpha", 1.0) == given.get("beta", 1.0) == 1.0 and not given.get("transA", 0)
    return not plain or (len(node.input) > 2 and node.input[2] not in graph.constants)


def _thin_convolution(graph: Graph, node: NodeProto) -> bool:
    if node.op_type != "Conv":
        return False
    weight = graph.constants[node.input[1]]
    group = int(attributes(node).get("group", 1))
    out, own = weight.shape[0], weight.shape[1] * group
    if out >= 16 and own >= 16:
        return False
    if group == 1:
        square = len(set(weight.shape[2:])) == 1
        wide = node.input[0] == graph.input or max(out, own) >= 16
        return not ((out % 8 == 0 or own % 8 == 0) and wide and square)
    return not (out % 8 == 0 and min(weight.shape[2:]) >= 3)


def _thin_product(graph: Graph, node: NodeProto) -> bool:
    return node.op_type in ("Gemm", "MatMul") and min(graph.constants[node.input[1]].shape) < 16


def _vector_product(graph: Graph, node: NodeProto) -> bool:
    known = graph.types.get(node.input[0])
    return node.op_type in ("Gemm", "MatMul") and known is not None and len(known[1]) == 2


def _pooled(graph: Graph, node: NodeProto) -> bool:
    """A convolution of one pixel, as in squeeze-and-excitation."""
    known = graph.types.get(node.input[0])
    return node.op_type == "Conv" and known is not None and all(size == 1 for size in known[1][2:])


def _residual(graph: Graph, node: NodeProto) -> bool:
    shapes = [graph.types.get(name, (0, ()))[1] for name in node.input]
    both = all(name not in graph.constants for name in node.input)
    return node.op_type == "Add" and both and shapes[0][1:] == shapes[1][1:] and len(shapes[0]) == 4


def _passing(graph: Graph, node: NodeProto) -> bool:
    return node.op_type in PASSING


def _float(graph: Graph, node: NodeProto) -> bool:
    return node.op_type in FLOAT or node.op_type in NO_VALUES


def _any(graph: Graph, node: NodeProto) -> bool:
    return True


MODELOPT = "modelopt.onnx.quantization (graph_utils.py, int8.py)"
TENSORRT = "TensorRT documentation, Explicit Quantization: Q/DQ layer-placement recommendations"
ONNXRUNTIME = "ONNX Runtime, qdq_transformer/selectors_actions"

RULES: tuple[Rule, ...] = (
    Rule("variable-weight", TARGETS, False, _variable_weight,
         "both factors are activations (attention): neither has scales per channel, and the products are "
         "followed by a softmax that magnifies the error", MODELOPT),
    Rule("unusual-product", TARGETS, False, _odd_gemm,
         "alpha, beta, a transposed input or a stack of matrices: no INT8 kernel takes them", ONNXRUNTIME),
    Rule("thin-convolution", ("int8",), False, _thin_convolution,
         "INT8 tensor cores take channels in packs of 16 or 32: filling them up costs more than INT8 saves",
         MODELOPT),
    Rule("vector-product", ("int8",), False, _vector_product,
         "the classifier of one image is a matrix times a vector: reading the weights is all its time, no "
         "INT8 kernel helps, and its error goes straight into the logits", MODELOPT),
    Rule("thin-product", ("int8",), False, _thin_product,
         "fewer than 16 rows or columns do not fill one tile of an INT8 kernel", MODELOPT),
    Rule("one-pixel", ("int8",), False, _pooled,
         "a convolution of one pixel is a matrix times a vector, as the classifier is", MODELOPT),
    Rule("weighted", TARGETS, True, _weighted,
         "the multiplications are here: every input of a convolution or matrix product is quantised, weights "
         "per output channel", TENSORRT),
    Rule("residual", TARGETS, True, _residual,
         "the precision of the shortcut decides the output precision of the convolution that the sum is "
         "fused into; the other branch comes straight out of that convolution's accumulator (for TensorRT "
         "only the shortcut is quantised; ONNX Runtime's QLinearAdd needs both inputs and the output)",
         TENSORRT),
    Rule("passing", TARGETS, True, _passing,
         "values are only moved or selected: quantising commutes with it, so it keeps its input's scale, and "
         "all inputs of a Concat share one", TENSORRT),
    Rule("float", TARGETS, False, _float,
         "little work, and sums or curves that 8 bits would spoil", MODELOPT),
    Rule("unknown", TARGETS, False, _any,
         "no rule is known for this operator: it is left in float", "tledge"),
)  # fmt: skip


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
