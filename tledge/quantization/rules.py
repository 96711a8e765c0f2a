"""The rules of what becomes INT8, as data, each with its reason: the first one that fits a node decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tledge.quantization.graph import Graph, attributes

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
