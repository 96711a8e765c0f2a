"""Which weights of `int8-cpu` have 7 bits, so that no sum of products saturates on processors without VNNI.

There (AVX2 alone) VPMADDUBSW multiplies unsigned by signed bytes and adds each two products in 16 bits: with
activations up to 255 and two weights of 127 the sum, 64770, becomes 32767. Two weights that are 128 together
at most cannot do that (`tledge.quantization.qdq.weights`). It is the remedy that ONNX Runtime calls
reduce_range and NNCF overflow_fix. The rules are data, as the placement's are: the first that fits decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tledge.quantization.graph import Graph, attributes
from tledge.quantization.qdq import Bits
from tledge.runtime.machine import saturates_int8

if TYPE_CHECKING:
    from onnx import NodeProto

Asked = Literal["auto", "8", "7"]
ASKED: tuple[Asked, ...] = ("auto", "8", "7")


@dataclass(frozen=True)
class Rule:
    """One rule: the layers it speaks for, how many bits their weights have, and why."""

    name: str
    bits: Bits
    fits: Callable[[Graph, NodeProto], bool]
    reason: str
    source: str


def _depthwise(graph: Graph, node: NodeProto) -> bool:
    if node.op_type != "Conv":
        return False
    shape = graph.constants[node.input[1]].shape
    return bool(shape[1] == 1) and shape[0] == int(attributes(node).get("group", 1))


def _any(graph: Graph, node: NodeProto) -> bool:
    return True


MEASURED = "tests/quantization/test_narrow.py, on AVX2: ONNX Runtime 1.31, OpenVINO 2026.4"

RULES: tuple[Rule, ...] = (
    Rule("depthwise", 8, _depthwise,
         "kernels of depthwise convolutions widen their bytes first and add in 32 bits: a place has "
         "one weight a channel, and so no pair to add", MEASURED),
    Rule("pairs", 7, _any,
         "convolutions (grouped ones too) and products add pairs of products in 16 bits, and saturate",
         f"{MEASURED}; ONNX Runtime documentation, Quantization: reduce_range; NNCF: overflow_fix"),
)  # fmt: skip


def bits(asked: Asked) -> Bits:
    """Return how many bits the weights of `int8-cpu` get: for "auto", what this machine adds rightly."""
    if asked == "auto":
        return 7 if saturates_int8() else 8
    return 7 if asked == "7" else 8


def of_layer(graph: Graph, node: NodeProto, allowed: Bits) -> Bits:
    """Return how many bits a layer's weights have where at least some have `allowed`."""
    if allowed == 8:
        return 8
    return next(rule for rule in RULES if rule.fits(graph, node)).bits
