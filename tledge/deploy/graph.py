"""What the exported graph of a variant takes and gives, for the servers' own configurations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tledge.bundle import Bundle
from tledge.errors import MachineError, UsageError, nearest

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclass(frozen=True)
class Ports:
    """The graph's input and output: names, numpy's names of their types; `batch` None where it is dynamic."""

    input: str
    input_dtype: str
    batch: int | None
    output: str
    output_dtype: str
    output_rank: int


def read_graph(bundle: Bundle, variant: str) -> ModelProto:
    """Return the graph of `variant`, verified.

    Raises:
        UsageError: the bundle has no such variant.
        MachineError: the package onnx is not installed.
    """
    if variant not in bundle.variants:
        hint = nearest(variant, bundle.variants)
        raise UsageError(f"{bundle.path} has no variant {variant}", hint=hint, path=bundle.path)
    try:
        import onnx
    except ImportError as error:
        raise MachineError("the package onnx is not installed", hint='pip install "tledge[onnx]"') from error
    return onnx.load_from_string(bundle.read(f"{variant}.onnx"))


def ports(model: ModelProto) -> Ports:
    """Return the input that is no weight, and the first output."""
    from onnx import helper

    weights = {tensor.name for tensor in model.graph.initializer}
    image = next(value for value in model.graph.input if value.name not in weights)
    logits = model.graph.output[0]

    def dtype(element: int) -> str:
        return str(helper.tensor_dtype_to_np_dtype(element).name)

    first = image.type.tensor_type.shape.dim[0]
    return Ports(
        image.name,
        dtype(image.type.tensor_type.elem_type),
        first.dim_value if first.HasField("dim_value") else None,
        logits.name,
        dtype(logits.type.tensor_type.elem_type),
        len(logits.type.tensor_type.shape.dim),
    )
