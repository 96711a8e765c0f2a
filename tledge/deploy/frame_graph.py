"""A graph that takes frames as DeepStream gives them, and answers with probabilities.

What nvinfer cannot do (a std per channel, a crop, other types and layouts) is done by operators put before
the network; softmax is put behind it, since nvinfer's classifier reads probabilities in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tledge.deploy.graph import Ports
from tledge.preprocess import Spec
from tledge.preprocess.geometry import Window
from tledge.preprocess.tables import lines

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

INPUT, OUTPUT = "frames", "probabilities"


def adapt(
    model: ModelProto,
    graph: Ports,
    spec: Spec,
    window: Window,
    *,
    normalised: bool,
    temperature: float = 1.0,
) -> ModelProto:
    """Put into `model` what lies between nvinfer's tensor and the network's, and softmax behind it.

    Args:
        model: the graph of a variant; it is changed in place, its own tensors keep their names.
        graph: its ports.
        spec: the bundle's.
        window: how a frame is resampled: nvinfer makes its resized size, of which the crop is taken here.
        normalised: whether nvinfer normalises; else its tensor holds levels, 0 to 255.
        temperature: what logits are divided by for the probabilities.
    """
    from onnx import TensorProto, checker, helper

    batch = "N" if graph.batch is None else graph.batch
    size = [window.resized_height, window.resized_width]
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    first = _free(INPUT, taken)
    before = _before(model, graph, spec, window, first, normalised=normalised)
    after = _after(model, graph, _free(OUTPUT, taken), temperature)
    body = [*before, *model.graph.node, *after]
    del model.graph.node[:]
    model.graph.node.extend(body)
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name in weights]
    del model.graph.input[:]
    frames = helper.make_tensor_value_info(first, TensorProto.FLOAT, [batch, 3, *size])
    model.graph.input.extend([frames, *kept])
    classes = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value or None
    del model.graph.output[:]
    model.graph.output.append(
        helper.make_tensor_value_info(after[-1].output[0], TensorProto.FLOAT, [batch, classes])
    )
    checker.check_model(model)
    return model


def _before(
    model: ModelProto, graph: Ports, spec: Spec, window: Window, first: str, *, normalised: bool
) -> list[NodeProto]:
    """Return the operators from the tensor `first` to the network's own input, at least one."""
    steps: list[tuple[str, list[str], dict[str, Any]]] = []
    if (window.resized_width, window.resized_height) != (window.width, window.height):
        starts = np.array([window.top, window.left], np.int64)
        ends = starts + np.array([window.height, window.width], np.int64)
        axes = np.array([2, 3], np.int64)
        steps.append(("Slice", _constants(model, crop_starts=starts, crop_ends=ends, crop_axes=axes), {}))
    if not normalised:
        slope, offset = lines(spec).astype(np.float32).T.reshape(2, 1, 3, 1, 1)
        steps.append(("Mul", _constants(model, channel_slope=slope), {}))
        steps.append(("Add", _constants(model, channel_offset=offset), {}))
    if spec.scale is not None:
        step = np.array(spec.scale, np.float32)
        zero = np.array(spec.zero_point, spec.dtype)
        steps.append(("QuantizeLinear", _constants(model, input_scale=step, input_zero_point=zero), {}))
    elif graph.input_dtype != "float32":
        steps.append(("Cast", [], {"to": _element(graph.input_dtype)}))
    if spec.layout == "NHWC":
        steps.append(("Transpose", [], {"perm": [0, 2, 3, 1]}))
    return _chain(steps or [("Identity", [], {})], first, graph.input)


def _after(model: ModelProto, graph: Ports, last: str, temperature: float) -> list[NodeProto]:
    """Return the operators from the network's logits to the tensor `last`: probabilities, N x classes."""
    steps: list[tuple[str, list[str], dict[str, Any]]] = []
    if graph.output_dtype != "float32":
        steps.append(("Cast", [], {"to": _element("float32")}))
    if graph.output_rank > 2:
        steps.append(("Flatten", [], {"axis": 1}))
    if temperature != 1.0:
        steps.append(("Div", _constants(model, temperature=np.array(temperature, np.float32)), {}))
    steps.append(("Softmax", [], {"axis": 1}))
    return _chain(steps, graph.output, last)


def _chain(steps: list[tuple[str, list[str], dict[str, Any]]], first: str, last: str) -> list[NodeProto]:
    """Return the nodes of `steps` (operator, more inputs, attributes), one behind the other."""
    from onnx import helper

    nodes, value = [], first
    for number, (operator, inputs, attributes) in enumerate(steps):
        name = f"deepstream/{first}/{operator}"
        result = last if number == len(steps) - 1 else f"{name}_output"
        nodes.append(helper.make_node(operator, [value, *inputs], [result], name=name, **attributes))
        value = result
    return nodes


def _constants(model: ModelProto, **values: np.ndarray) -> list[str]:
    """Add `values` to the graph's constants, and return their names."""
    from onnx import numpy_helper

    names = [f"deepstream/{name}" for name in values]
    for name, value in zip(names, values.values(), strict=True):
        model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return names


def _element(dtype: str) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
