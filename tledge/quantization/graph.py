"""An ONNX graph that can be asked who makes and who reads a tensor, and brought into one simple form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tledge.errors import InputError, MachineError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Array = NDArray[Any]

QUANTISED_OPS = frozenset(
    "QuantizeLinear DequantizeLinear DynamicQuantizeLinear QLinearConv QLinearMatMul QLinearAdd QGemm "
    "ConvInteger MatMulInteger".split()
)


@dataclass
class Graph:
    """A model with its indices. After a change of its nodes, make a new `Graph` of the same model."""

    model: ModelProto
    makers: dict[str, NodeProto] = field(default_factory=dict)
    readers: dict[str, list[NodeProto]] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from onnx import numpy_helper

        self.constants = {t.name: numpy_helper.to_array(t) for t in self.model.graph.initializer}
        for node in self.model.graph.node:
            for name in node.output:
                self.makers[name] = node
            for name in dict.fromkeys(node.input):
                if name:
                    self.readers.setdefault(name, []).append(node)

    @property
    def nodes(self) -> list[NodeProto]:
        """Return the nodes in their order, which is topological."""
        return list(self.model.graph.node)

    @property
    def input(self) -> str:
        """Return the name of the image tensor."""
        return next(str(v.name) for v in self.model.graph.input if v.name not in self.constants)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the names of the graph's outputs."""
        return tuple(v.name for v in self.model.graph.output)

    @cached_property
    def depths(self) -> dict[str, int]:
        """Return for each tensor the number of nodes on the longest way to it."""
        depth: dict[str, int] = {}
        for node in self.nodes:
            longest = 1 + max((depth.get(name, 0) for name in node.input), default=0)
            depth.update(dict.fromkeys(node.output, longest))
        return depth

    @cached_property
    def types(self) -> dict[str, tuple[int, tuple[int | None, ...]]]:
        """Return element type (ONNX's number) and dimensions (None: dynamic) of each tensor that has them."""
        from onnx import shape_inference

        inferred = shape_inference.infer_shapes(self.model).graph
        found: dict[str, tuple[int, tuple[int | None, ...]]] = {}
        for value in [*inferred.input, *inferred.value_info, *inferred.output]:
            tensor = value.type.tensor_type
            sizes = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
            found[value.name] = (tensor.elem_type, sizes)
        for name, array in self.constants.items():
            found.setdefault(name, (_element(array), array.shape))
        return found

    def only_reader(self, tensor: str) -> NodeProto | None:
        """Return the one node that reads `tensor`; None if there are several, or it is an output."""
        readers = self.readers.get(tensor, [])
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None


def _element(array: Array) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(array.dtype))


def attributes(node: NodeProto) -> dict[str, Any]:
    """Return the node's attributes as Python values."""
    from onnx import helper

    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def load(data: bytes, name: str = "fp32.onnx") -> ModelProto:
    """Return the model of an ONNX file's bytes in simple form, as `simplify` makes it.

    Raises:
        InputError: it is no ONNX, or it is quantised already.
        MachineError: the package onnx is missing.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise MachineError("calibrating needs the package onnx", hint='pip install "tledge[onnx]"') from error
    try:
        model = onnx.load_from_string(data)
    except DecodeError as error:
        raise InputError(
            f"{name} is not a whole ONNX file", hint="Export or copy it again.", path=name
        ) from error
    quantised = next((n for n in model.graph.node if n.op_type in QUANTISED_OPS), None)
    if quantised is not None:
        raise InputError(
            f"{name} is quantised already: {quantised.op_type} {quantised.name!r}",
            hint="Calibrate the float network that it was made from.",
            path=name,
        )
    simplify(model)
    return model


def simplify(model: ModelProto) -> None:
    """Bring `model` into one form without changing what it computes.

    Constants are initialisers, there is no Identity and no batch normalisation after a convolution, and each
    node has a name of its own.
    """
    from onnx import numpy_helper

    renamed: dict[str, str] = {}
    kept: list[NodeProto] = []
    outputs = {value.name for value in model.graph.output}
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = node.attribute[0].t
            tensor.name = node.output[0]
            model.graph.initializer.append(tensor)
        elif node.op_type in ("Identity", "Dropout") and node.output[0] not in outputs:
            renamed[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    replace_nodes(model, kept)
    graph = Graph(model)
    folded: set[str] = set()
    for node in graph.nodes:
        if node.op_type != "BatchNormalization":
            continue
        conv = graph.makers.get(node.input[0])
        if conv is None or conv.op_type != "Conv" or graph.only_reader(node.input[0]) is None:
            continue
        parts = [graph.constants.get(name) for name in (conv.input[1], *node.input[1:5])]
        bias = graph.constants.get(conv.input[2]) if len(conv.input) > 2 else np.zeros(1, np.float32)
        if bias is None or any(part is None for part in parts):
            continue
        weight, gamma, beta, mean, variance = (np.asarray(part, np.float64) for part in parts)
        gain = gamma / np.sqrt(variance + attributes(node).get("epsilon", 1e-5))
        shaped = gain.reshape(-1, *[1] * (weight.ndim - 1))
        made = {"weight": weight * shaped, "bias": beta + (bias.astype(np.float64) - mean) * gain}
        for what, array in made.items():
            name = f"{node.output[0]}.{what}"
            model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
        del conv.input[1:]
        conv.input.extend([f"{node.output[0]}.weight", f"{node.output[0]}.bias"])
        conv.output[0] = node.output[0]
        folded.add(node.output[0])
    replace_nodes(
        model, [n for n in graph.nodes if n.op_type != "BatchNormalization" or n.output[0] not in folded]
    )
    used: set[str] = set()
    for node in model.graph.node:
        name = node.name or f"{node.op_type}:{node.output[0]}"
        while name in used:
            name += "'"
        node.name = name
        used.add(name)


def replace_nodes(model: ModelProto, nodes: Iterable[NodeProto]) -> None:
    """Make `nodes` the graph's nodes, and drop the initialisers and shapes that nothing uses any more."""
    fresh = list(nodes)
    del model.graph.node[:]
    model.graph.node.extend(fresh)
    used = {name for node in fresh for name in node.input} | {value.name for value in model.graph.output}
    made = {name for node in fresh for name in node.output}
    tensors = [t for t in model.graph.initializer if t.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors)
    values = [v for v in model.graph.value_info if v.name in made]
    del model.graph.value_info[:]
    model.graph.value_info.extend(values)


def copy(model: ModelProto) -> ModelProto:
    """Return a copy that may be changed."""
    from onnx import ModelProto as Model

    fresh = Model()
    fresh.CopyFrom(model)
    return fresh


def with_outputs(model: ModelProto, tensors: Iterable[str]) -> ModelProto:
    """Return a copy whose outputs are `tensors` (any tensors of the graph), in that order."""
    from onnx import helper

    fresh = copy(model)
    del fresh.graph.output[:]
    fresh.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors)
    replace_nodes(fresh, list(fresh.graph.node))
    return fresh


def part(
    model: ModelProto, nodes: list[NodeProto], inputs: Mapping[str, np.dtype[Any]], outputs: list[str]
) -> ModelProto:
    """Return the model of consecutive nodes: what of `inputs` they read in, with its type, `outputs` out."""
    from onnx import helper

    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "part",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), None)
            for name, dtype in inputs.items()
            if name in read
        ],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [tensor for tensor in model.graph.initializer if tensor.name in read],
    )
    return helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)


def session(
    model: ModelProto, threads: int | None = None, *, exact: bool = True, integer: bool = True
) -> Any:
    """Return an ONNX Runtime session of `model` on the CPU.

    Args:
        model: The graph; may have many outputs.
        threads: Threads of one inference; None: all cores.
        exact: Leave out the optimiser that recomputes biases from the scales (see tledge.runtime).
        integer: Fuse Q/DQ into INT8 kernels. Without it they are computed as written, in float: the answers
            of kernels that add in 32 bits, on a processor whose own add in 16 and saturate.

    Raises:
        MachineError: ONNX Runtime is missing.
        InputError: it cannot open the graph.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MachineError("calibrating needs ONNX Runtime", hint='pip install "tledge[onnx]"') from error
    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    # The arena keeps twice what was ever needed; calibration promises to stay under 1 GB.
    options.enable_cpu_mem_arena = False
    # Without the arena one block for all of a run's tensors is fresh memory each time: twice the time where a
    # graph has many outputs.
    options.enable_mem_pattern = False
    if not integer:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    disabled = ["WeightBiasQuantization"] if exact else None
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, ["CPUExecutionProvider"], disabled_optimizers=disabled
        )
    except Exception as error:  # the library's own error types share no other base
        raise InputError(f"ONNX Runtime cannot open the graph: {str(error).splitlines()[0]}") from error
