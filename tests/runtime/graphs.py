"""Small ONNX graphs, good and bad, for the tests of the runtime and the bench."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto, helper, numpy_helper

WEIGHTS = np.random.default_rng(0).standard_normal((5, 3, 3, 3)).astype(np.float32)


def classifier(
    batch: int | str = "N",
    size: Sequence[int | str] = (16, 16),
    channels: int = 3,
    dtype: int = TensorProto.FLOAT,
    flat: bool = True,
    op: str = "Conv",
    domain: str = "",
) -> bytes:
    """Return a convolution, global average pooling and (if `flat`) a flatten: 5 classes."""
    weights = WEIGHTS[:, :1].repeat(channels, axis=1) if channels != 3 else WEIGHTS
    element = helper.tensor_dtype_to_np_dtype(dtype)
    nodes = [helper.make_node(op, ["x", "w"], ["c"], domain=domain)]
    nodes.append(helper.make_node("GlobalAveragePool", ["c"], ["p"]))
    nodes += [helper.make_node("Flatten", ["p"], ["logits"])] if flat else []
    shape = [batch, 5] if flat else [batch, 5, 1, 1]
    return graph(
        nodes,
        inputs=[helper.make_tensor_value_info("x", dtype, [batch, channels, *size])],
        outputs=[helper.make_tensor_value_info("logits" if flat else "p", dtype, shape)],
        weights=[numpy_helper.from_array(weights.astype(element), "w")],
    )


def expected(x: np.ndarray) -> np.ndarray:
    """Return what `classifier` answers, computed in float64 by hand: N x 5."""
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (3, 3), axis=(2, 3))
    return np.einsum("nchwij,kcij->nk", windows, WEIGHTS) / (windows.shape[2] * windows.shape[3])


def graph(nodes, inputs, outputs, weights=()) -> bytes:
    """Return the bytes of a model made of these parts."""
    made = helper.make_graph(nodes, "tiny", inputs, outputs, list(weights))
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.example", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10).SerializeToString()


def value(name: str, shape: Sequence[int | str], dtype: int = TensorProto.FLOAT):
    """Return the declaration of an input or output."""
    return helper.make_tensor_value_info(name, dtype, shape)
