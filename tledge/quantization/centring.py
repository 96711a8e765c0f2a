"""Which tensors of the `int8` variant can have their middle moved to zero at no cost (`emit_trt` does it)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tledge.quantization.graph import Graph, attributes

if TYPE_CHECKING:
    from onnx import NodeProto


def can_be_centred(graph: Graph, tensor: str, layers: set[str]) -> bool:
    """Tell whether the middle of `tensor` can be moved to zero without one more operator.

    Signed INT8 with zero point 0 wastes its negative half on what a Clip at zero makes. Where a convolution
    makes it and only unpadded INT8 convolutions read it, the shift goes into their biases and the Clip's
    bounds. A padded one reads zeros at its borders, and no bias makes up for these.
    """
    clip = graph.makers.get(tensor)
    readers = graph.readers.get(tensor, [])
    if clip is None or clip.op_type != "Clip" or tensor in graph.outputs or not readers:
        return False
    if len(clip.input) < 3 or any(name not in graph.constants for name in clip.input[1:3]):
        return False
    if float(graph.constants[clip.input[1]]) != 0.0:
        return False
    maker = graph.makers.get(clip.input[0])
    if maker is None or maker.op_type != "Conv" or graph.only_reader(clip.input[0]) is None:
        return False
    known = all(len(node.input) > 2 and node.input[2] in graph.constants for node in [maker, *readers])
    return known and all(node.name in layers and _unpadded(node) for node in readers)


def _unpadded(node: NodeProto) -> bool:
    given = attributes(node)
    automatic = given.get("auto_pad", b"NOTSET")
    return node.op_type == "Conv" and (
        automatic == b"VALID" or (automatic == b"NOTSET" and not any(given.get("pads", [])))
    )
