"""Small networks for the builder's tests: a convolution, a depthwise one, pooling and a classifier."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

SIZE = 32
CLASSES = 5
RANDOM = np.random.default_rng(0)
WEIGHTS = {
    "stem": RANDOM.standard_normal((16, 3, 3, 3)).astype(np.float32),
    "depthwise": RANDOM.standard_normal((16, 1, 3, 3)).astype(np.float32),
    "point": RANDOM.standard_normal((32, 16, 1, 1)).astype(np.float32),
    "head": RANDOM.standard_normal((CLASSES, 32)).astype(np.float32),
}


def network(
    variant: str = "fp32",
    *,
    batch: int | str = "N",
    opset: int = 18,
    ir_version: int = 10,
    size: int | str = SIZE,
) -> bytes:
    """Return the network as `variant`.

    fp32; fp16 (float16 by casts); int8 (Q/DQ on data and weights, the rest float32); int8-half (the same with
    float32 scales, the rest float16 by casts, as calibrate writes it).
    """
    parts = Parts(variant)
    x = "images"
    if parts.half:
        x = parts.add("Cast", [x], "to_half", to=TensorProto.FLOAT16)
    x = parts.heavy("Conv", x, "stem", pads=[1, 1, 1, 1], strides=[2, 2])
    x = parts.add("Relu", [x], "stem_relu")
    x = parts.heavy("Conv", x, "depthwise", pads=[1, 1, 1, 1], group=16)
    x = parts.add("Relu", [x], "depthwise_relu")
    x = parts.heavy("Conv", x, "point")
    x = parts.add("Relu", [x], "point_relu")
    x = parts.add("GlobalAveragePool", [x], "pool")
    x = parts.add("Flatten", [x], "flatten")
    x = parts.heavy("Gemm", x, "head", transB=1)
    if parts.half:
        x = parts.add("Cast", [x], "to_float", to=TensorProto.FLOAT)
    parts.add("Identity", [x], "out", output="logits")
    return model(
        parts.nodes,
        inputs=[value("images", [batch, 3, size, size])],
        outputs=[value("logits", [batch, CLASSES])],
        weights=parts.weights,
        opset=opset,
        ir_version=ir_version,
    )


class Parts:
    """The nodes and weights of a network that is being put together."""

    def __init__(self, variant: str) -> None:
        self.int8 = variant.startswith("int8")
        self.half = variant in ("fp16", "int8-half")
        self.nodes: list[object] = []
        self.weights: list[object] = []

    def add(self, operator: str, inputs: list[str], name: str, output: str = "", **attributes: object) -> str:
        output = output or f"{name}.y"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=name, **attributes))
        return output

    def constant(self, name: str, values: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def heavy(self, operator: str, x: str, name: str, **attributes: object) -> str:
        weights = WEIGHTS[name]
        if not self.int8:
            dtype = np.float16 if self.half else np.float32
            return self.add(
                operator, [x, self.constant(f"{name}.w", weights.astype(dtype))], name, **attributes
            )
        scale = self.constant(f"{name}.x_scale", np.float32(0.05))
        zero = self.constant(f"{name}.zero", np.int8(0))
        if self.half:
            x = self.add("Cast", [x], f"{name}.float", to=TensorProto.FLOAT)
        x = self.add("QuantizeLinear", [x, scale, zero], f"{name}.q")
        x = self.add("DequantizeLinear", [x, scale, zero], f"{name}.dq")
        scales = np.abs(weights).reshape(len(weights), -1).max(axis=1) / 127
        whole = np.round(weights / scales.reshape(-1, *[1] * (weights.ndim - 1))).astype(np.int8)
        w = self.add(
            "DequantizeLinear",
            [
                self.constant(f"{name}.w", whole),
                self.constant(f"{name}.w_scale", scales.astype(np.float32)),
                self.constant(f"{name}.w_zero", np.zeros(len(scales), np.int8)),
            ],
            f"{name}.w_dq",
            axis=0,
        )
        if self.half:
            x = self.add("Cast", [x], f"{name}.x_half", to=TensorProto.FLOAT16)
            w = self.add("Cast", [w], f"{name}.w_half", to=TensorProto.FLOAT16)
        return self.add(operator, [x, w], name, **attributes)


def model(nodes, inputs, outputs, weights=(), *, opset: int = 18, ir_version: int = 10) -> bytes:
    """Return the bytes of a model made of these parts."""
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, list(weights))
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.example", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version).SerializeToString()


def one_node(
    operator: str, *, dtype: int = TensorProto.FLOAT, domain: str = "", shape=("N", 3, 8, 8)
) -> bytes:
    """Return a model of one node between a convolution and a Relu."""
    weights = numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="before"),
        helper.make_node(operator, ["a"], ["b"], name="odd", domain=domain),
        helper.make_node("Relu", ["b"], ["y"], name="after"),
    ]
    return model(nodes, [value("x", shape, dtype)], [value("y", None)], [weights])


def value(name: str, shape, dtype: int = TensorProto.FLOAT):
    """Return the declaration of an input or output."""
    return helper.make_tensor_value_info(name, dtype, shape)
