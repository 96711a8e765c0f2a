"""Weights in 7 bits: no two of a sign are too much together, and kernels answer as the graph is written."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.quantization import networks
from tledge.errors import UsageError
from tledge.quantization import emit_cpu, narrow, qdq, rounding
from tledge.quantization.build import answers
from tledge.quantization.calibrate import CalibrateSettings, calibrate
from tledge.quantization.graph import Graph, load, session
from tledge.quantization.placement import place
from tledge.quantization.ranges import Range
from tledge.runtime import backends


def pairs(integers: np.ndarray) -> int:
    """Return the most that two weights of one sign in a channel (row) are together."""
    ordered = np.sort(integers.astype(np.int64), axis=1)
    return int(
        max(
            np.maximum(ordered[:, -2:], 0).sum(axis=1).max(), -np.minimum(ordered[:, :2], 0).sum(axis=1).min()
        )
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.floats(0.1, 30))
def test_no_two_weights_of_a_sign_are_more_than_a_pair_may_be(seed: int, size: int, outlier: float) -> None:
    random = np.random.default_rng(seed)
    values = random.standard_normal((6, size)).astype(np.float32)
    values[:, 0] *= np.float32(outlier)
    integers, scales = qdq.weights(values, 0, bits=7)
    assert pairs(integers) <= qdq.PAIR
    # As much as may be is used, and all weights are within half a step.
    assert max(pairs(integers), int(np.abs(integers.astype(int)).max())) >= 126
    assert np.abs(integers * scales[:, None] - values).max() <= 0.5001 * scales.max()


def test_a_lone_large_weight_keeps_its_steps_and_two_alike_are_halved() -> None:
    integers, _ = qdq.weights(np.array([[10.0, 0.1, -5.0], [3.0, 3.0, -3.0]], np.float32), 0, bits=7)
    np.testing.assert_array_equal(integers, [[126, 1, -63], [64, 64, -64]])


def test_learned_rounding_stays_within_what_a_pair_may_be() -> None:
    random = np.random.default_rng(0)
    values = random.standard_normal((16, 24)).astype(np.float32)
    inputs = random.standard_normal((200, 4)) @ random.standard_normal((4, 24))
    offsets = rounding.learn(values, np.cov(inputs.T)[None], bits=7)
    integers, _ = qdq.weights(values, 0, bits=7, offsets=offsets)
    assert offsets.any()
    assert pairs(integers) <= qdq.PAIR


# --- the kernels ---


SHAPES = {"dense": (16, 3, 3, 3), "grouped": (6, 1, 3, 3), "depthwise": (3, 1, 3, 3), "product": (16, 192)}


def one_layer(kind: str) -> Graph:
    """Return a network of one layer, all of whose weights are alike: the worst there is."""
    net = networks.Net()
    weight = net.constant("w", np.ones(SHAPES[kind], np.float32))
    if kind == "product":
        out = net.node("Gemm", [net.node("Flatten", ["images"], "flat"), weight], "y", transB=1)
    else:
        out = net.node("Conv", ["images", weight], "y", group=1 if kind == "dense" else 3, pads=[1] * 4)
    last = net.node("Flatten", [net.node("Relu", [out], "act")], "logits")
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 8, 8])
    logits = helper.make_tensor_value_info(last, TensorProto.FLOAT, None)
    graph = helper.make_graph(net.nodes, "net", [images], [logits], net.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return Graph(load(model.SerializeToString()))


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("kind", ["dense", "grouped", "depthwise", "product"])
def test_kernels_answer_as_the_graph_is_written(kind: str, backend: str) -> None:
    if backends.missing(backend):
        pytest.skip(f"{backend} is not installed")
    graph = one_layer(kind)
    placement = place(graph, "int8-cpu", bits=7)
    assert [layer.bits for layer in placement.layers] == [8 if kind == "depthwise" else 7]
    most = int(np.prod(SHAPES[kind][1:]))
    found = {
        name: Range(0.0, 1.0 if name in ("images", "flat") else float(most)) for name in placement.tensors
    }
    quantised = emit_cpu.emit(graph.model, placement, found)
    x = np.ones((1, 3, 8, 8), np.float32)  # every activation is 255
    right = answers(session(quantised, integer=False), x)
    assert right.max() == pytest.approx(most, rel=0.01)
    opened = backends.open_session(
        quantised.SerializeToString(), backend, variant="int8-cpu", threads=1, shape=(3, 8, 8)
    )
    np.testing.assert_allclose(opened.run(x), right, atol=most / 254)


# --- what is asked for ---


@pytest.mark.parametrize(
    ("saturates", "asked", "bits"), [(True, "auto", 7), (False, "auto", 8), (True, "8", 8), (False, "7", 7)]
)
def test_auto_is_what_the_processor_adds_rightly(monkeypatch, saturates: bool, asked: str, bits: int) -> None:
    monkeypatch.setattr(narrow, "saturates_int8", lambda: saturates)
    assert narrow.bits(asked) == bits


def test_only_int8_cpu_is_narrowed_and_every_rule_gives_its_reason() -> None:
    graph = Graph(networks.mobile())
    assert {layer.bits for layer in place(graph, "int8", bits=7).layers} == {8}
    found = {layer.node: layer.bits for layer in place(graph, "int8-cpu", bits=7).layers}
    assert found == {name: 8 if name == "node_deep" else 7 for name in found}
    assert all(rule.reason and rule.source for rule in narrow.RULES)


def test_unknown_weights_are_refused(tmp_path) -> None:
    bundle = networks.bundle(tmp_path, networks.mobile())
    with pytest.raises(UsageError, match="no such weights: 9"):
        calibrate(bundle, settings=CalibrateSettings(cpu_weights="9"))


def test_graph_weights_are_written_in_seven_bits() -> None:
    graph = Graph(networks.mobile())
    placement = place(graph, "int8-cpu", bits=7)
    emitted = emit_cpu.emit(graph.model, placement, dict.fromkeys(placement.tensors, Range(-1.0, 6.0)))
    integers = {t.name: numpy_helper.to_array(t) for t in emitted.graph.initializer}
    for layer in placement.layers:
        values = np.moveaxis(integers[f"{layer.node}.weight.int8"], layer.axis, 0)
        assert layer.bits == 8 or pairs(values.reshape(len(values), -1)) <= qdq.PAIR
