"""The two emissions: their form, node by node, and their numbers, against float and by hand."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.quantization import networks
from tledge.progress import Progress
from tledge.quantization import bias, emit_cpu, emit_trt, fp16, qdq
from tledge.quantization.build import answers, find_ranges
from tledge.quantization.graph import Graph, load, session
from tledge.quantization.observe import observe
from tledge.quantization.placement import place
from tledge.quantization.ranges import Range
from tledge.runtime.machine import has_int8_dot_product

NETWORKS = pytest.mark.parametrize("make", [networks.mobile, networks.fire], ids=["mobile", "fire"])
EMISSIONS = {"int8": emit_trt.emit, "int8-cpu": emit_cpu.emit}


def emitted(make, target: str, method: str = "minmax") -> tuple[onnx.ModelProto, onnx.ModelProto]:
    model = load(make().SerializeToString())
    placement = place(Graph(model), target)
    batches = [networks.images(8, seed) for seed in range(4)]
    observers = observe(model, [placement], batches, total=32, threads=1, progress=Progress.silent())
    return model, EMISSIONS[target](model, placement, find_ranges(placement, observers, method))


def operators(model: onnx.ModelProto) -> Counter:
    return Counter(node.op_type for node in model.graph.node)


@NETWORKS
@pytest.mark.parametrize("target", EMISSIONS)
def test_answers_stay_near_the_float_network(make, target: str) -> None:
    model, quantised = emitted(make, target)
    onnx.checker.check_model(quantised, full_check=True)
    x = networks.images(32, 9)
    right = answers(session(model), x)
    opened = session(quantised, exact=target == "int8", integer=has_int8_dot_product())
    ours = answers(opened, x)
    noise = np.sqrt(((ours - right) ** 2).mean()) / right.std()
    assert noise < 0.05


def test_tensorrt_gets_signed_symmetric_inputs_and_float_biases() -> None:
    _, quantised = emitted(networks.mobile, "int8")
    graph = Graph(quantised)
    for node in graph.nodes:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            point = graph.constants[node.input[2]]
            assert point.dtype == np.int8
            assert not point.any()
            assert graph.constants[node.input[1]].dtype == np.float32
        if node.op_type == "Conv":
            assert graph.makers[node.input[0]].op_type == "DequantizeLinear"
            weight = graph.makers[node.input[1]]
            assert graph.constants[weight.input[0]].dtype == np.int8
            assert graph.constants[weight.input[1]].shape == (graph.constants[weight.input[0]].shape[0],)
            assert graph.constants[node.input[2]].dtype == np.float32
            # Nothing stands between a convolution and its activation.
            assert graph.readers[node.output[0]][0].op_type in ("Clip", "Relu", "Add")
    (total,) = [node for node in graph.nodes if node.op_type == "Add"]
    assert [graph.makers[name].op_type for name in total.input] == ["Conv", "DequantizeLinear"]
    assert operators(quantised)["QuantizeLinear"] == 5


def test_a_tensor_read_twice_is_quantised_once() -> None:
    _, quantised = emitted(networks.mobile, "int8")
    readers = Graph(quantised).readers["stem.act"]
    assert [node.op_type for node in readers] == ["QuantizeLinear"]


def test_x86_gets_unsigned_activations_and_int32_biases() -> None:
    _, quantised = emitted(networks.mobile, "int8-cpu")
    graph = Graph(quantised)
    for node in graph.nodes:
        if node.op_type == "QuantizeLinear":
            assert graph.constants[node.input[2]].dtype == np.uint8
        if node.op_type == "Conv":
            entry, weight, bias = (graph.makers[name] for name in node.input)
            assert graph.constants[bias.input[0]].dtype == np.int32
            product = graph.constants[entry.input[1]] * graph.constants[weight.input[1]]
            np.testing.assert_array_equal(graph.constants[bias.input[1]], product)
            assert graph.readers[node.output[0]][0].op_type == "QuantizeLinear"
    assert not {"Clip", "Relu"} & operators(quantised).keys()


@NETWORKS
def test_onnx_runtime_fuses_every_convolution(make, tmp_path) -> None:
    import onnxruntime

    _, quantised = emitted(make, "int8-cpu")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(quantised.SerializeToString(), options, ["CPUExecutionProvider"])
    fused = operators(onnx.load(tmp_path / "fused.onnx"))
    assert fused["QLinearConv"] == operators(quantised)["Conv"]
    assert fused["Conv"] == 0
    assert fused["QGemm"] == 1


def test_members_of_a_group_have_one_scale() -> None:
    _, quantised = emitted(networks.fire, "int8-cpu")
    graph = Graph(quantised)
    scales = {graph.constants[f"{name}.scale"].item() for name in ("left.act", "right.act", "both", "small")}
    assert len(scales) == 1


def test_scales_by_hand() -> None:
    assert qdq.symmetric(Range(-1.27, 0.5)).scale == pytest.approx(0.01)
    found = qdq.asymmetric(Range(-1.0, 1.55))
    assert (found.scale, found.zero_point) == (pytest.approx(0.01), 100)
    assert qdq.symmetric(Range(0.0, 0.0)).scale > 0


def test_weights_are_rounded_a_channel_at_a_time() -> None:
    values = np.array([[1.27, -0.64], [0.0, 0.0], [100.0, 50.0]], np.float32)
    integers, scales = qdq.weights(values, 0)
    np.testing.assert_array_equal(integers, [[127, -64], [0, 0], [127, 64]])
    assert scales[0] == pytest.approx(0.01)
    across, _ = qdq.weights(values.T, 1)
    np.testing.assert_array_equal(across, integers.T)


def test_a_dead_channel_with_a_large_bias_does_not_overflow() -> None:
    model = networks.mobile()
    for tensor in model.graph.initializer:
        if tensor.name == "last.w":
            array = numpy_helper.to_array(tensor).copy()
            array[3] = 1e-12
            tensor.CopyFrom(numpy_helper.from_array(array, "last.w"))
        if tensor.name == "last.b":
            array = numpy_helper.to_array(tensor).copy()
            array[3] = 2.5
            tensor.CopyFrom(numpy_helper.from_array(array, "last.b"))
    model, quantised = emitted(lambda: model, "int8-cpu")
    graph = Graph(quantised)
    bias = graph.constants["node_last.bias.int32"][3] * graph.constants["node_last.bias.scale"][3]
    assert bias == pytest.approx(2.5, rel=1e-3)


@NETWORKS
def test_float16_is_explicit_and_near(make) -> None:
    model = load(make().SerializeToString())
    half = fp16.convert(model)
    onnx.checker.check_model(half, full_check=True)
    graph = Graph(half)
    elements = {
        value.name: value.type.tensor_type.elem_type for value in (*half.graph.input, *half.graph.output)
    }
    assert set(elements.values()) == {onnx.TensorProto.FLOAT}
    for node in graph.nodes:
        if node.op_type == "Conv":
            assert graph.constants[node.input[1]].dtype == np.float16
        if node.op_type == "GlobalAveragePool":
            assert graph.makers[node.input[0]].op_type == "Cast"
    x = networks.images(16)
    np.testing.assert_allclose(answers(session(half), x), answers(session(model), x), atol=0.03)


def test_float16_keeps_what_would_overflow() -> None:
    model = load(networks.mobile().SerializeToString())
    half = Graph(fp16.convert(model, large=["wide.act"]))
    kept = {
        node.name
        for node in half.nodes
        if node.op_type in ("Conv", "Clip")
        and node.input[1] in half.constants
        and half.constants[node.input[1]].dtype == np.float32
    }
    assert kept == {"node_wide.act", "node_deep"}


def test_int8_with_float16_keeps_float32_scales() -> None:
    _, quantised = emitted(networks.mobile, "int8")
    mixed = fp16.convert(quantised)
    onnx.checker.check_model(mixed, full_check=True)
    graph = Graph(mixed)
    for node in graph.nodes:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert graph.constants[node.input[1]].dtype == np.float32
    x = networks.images(16)
    np.testing.assert_allclose(answers(session(mixed), x), answers(session(quantised), x), atol=0.15)


def test_batch_normalisation_is_folded() -> None:
    net = networks.Net()
    stem = net.conv("images", "stem", (16, 3, 3, 3))
    parts = [net.constant(f"bn{i}", net.random.uniform(0.5, 1.5, 16).astype(np.float32)) for i in range(4)]
    net.head(net.node("BatchNormalization", [stem, *parts], "normal", epsilon=1e-3), 16)
    model = net.model()
    simple = load(model.SerializeToString())
    assert operators(simple)["BatchNormalization"] == 0
    x = networks.images(8)
    np.testing.assert_allclose(answers(session(simple), x), answers(session(model), x), rtol=1e-4, atol=1e-5)


def narrow():
    """`mobile`, but nothing is padded where a ReLU6 is read: both convolutions of the block are 1 x 1."""
    net = networks.Net(4)
    stem = net.clip(net.conv("images", "stem", (16, 3, 3, 3)), "stem.act", 2.0)
    wide = net.clip(net.conv(stem, "wide", (32, 16, 1, 1), scale=1.4), "wide.act", 2.0)
    last = net.node("Relu", [net.conv(wide, "last", (32, 32, 1, 1), scale=1.4)], "last.act")
    net.head(last, 32)
    return net.model()


def test_a_relu6_is_centred_only_where_no_padding_reads_it() -> None:
    placed = {
        make: place(Graph(load(make().SerializeToString())), "int8") for make in (networks.mobile, narrow)
    }
    assert placed[networks.mobile].centred == ("deep.act",)
    assert placed[narrow].centred == ("stem.act", "wide.act")
    graph = Graph(load(narrow().SerializeToString()))
    assert place(graph, "int8", frozenset({"node_last"})).centred == ("stem.act",)
    assert place(graph, "int8-cpu").centred == ()


def test_centring_uses_all_steps_and_adds_no_operator() -> None:
    model = load(narrow().SerializeToString())
    placement = place(Graph(model), "int8")
    ranges = dict.fromkeys(placement.tensors, Range(-2.0, 2.0)) | {"images": Range(-1.0, 1.0)}
    plain = emit_trt.emit(model, dataclasses.replace(placement, centred=()), ranges)
    quantised = emit_trt.emit(model, placement, ranges)
    graph = Graph(quantised)
    assert operators(quantised) == operators(plain)
    for name in placement.centred:
        clip = graph.makers[name]
        low, high = (float(graph.constants[limit]) for limit in clip.input[1:])
        assert low == -high
        assert graph.constants[f"{name}.scale"] == pytest.approx(high / 127)
    x = networks.images(64, 9)
    # Against the network with rounded weights: what is left is the error of the activations.
    right = answers(session(bias.rounded(model, placement.layers)), x)
    errors = [np.sqrt(((answers(session(one), x) - right) ** 2).mean()) for one in (plain, quantised)]
    assert errors[1] < 0.8 * errors[0]
