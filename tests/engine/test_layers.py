from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tledge.engine.layers import Layer, Report, from_inspector, from_log
from tledge.runtime.tensorrt_log import LAYERS

# The log is cut out of a real build of EfficientNet-Lite0; the two JSON files are written after the form that
# NVIDIA's developer guide shows, since EngineInspector needs a GPU.
GOLDEN = Path(__file__).parent / "golden"
LOG = (GOLDEN / "lite0_int8_rtx_1.7.1.txt").read_text(encoding="utf-8")

names = st.text("abcxyzABC0189./_-:+() ", min_size=1, max_size=20).map(str.strip).filter(bool)
types = st.lists(st.sampled_from(["Float", "Half", "Int8", "Int32", "FP8"]), max_size=3).map(tuple)
any_layer = st.builds(
    Layer,
    name=names,
    kind=st.sampled_from(["correlation", "gemm", "kgen", "runtime_fusion", "Reformat"]),
    inputs=types,
    weights=types,
    outputs=types,
    tactic=names,
    nodes=st.lists(names, max_size=4).map(tuple),
)


def line(layer: Layer) -> str:
    """Return the layer as TensorRT's log lists it."""

    def tensors(kinds: tuple[str, ...]) -> str:
        form = "{{ Name: t, Dimensions: [-1,3], Strides: [3,1], Datatype: {}, Format: (Linear) Row major }}"
        return ", ".join(form.format(kind) for kind in kinds)

    metadata = "\x1f".join(f"[ONNX Layer: {node}]" for node in layer.nodes)
    return (
        f"Name: {layer.name}, LayerType: {layer.kind}, Inputs: [{tensors(layer.inputs)}], Constants: "
        f"[{tensors(layer.weights)}], Outputs: [{tensors(layer.outputs)}], TacticName: {layer.tactic}, "
        f"StreamId: 0, Metadata: {metadata}"
    )


@given(st.lists(any_layer, max_size=5))
def test_what_is_listed_is_read(layers):
    assert from_log(LAYERS + "\n".join(map(line, layers)) + "\n\nI/O Tensors:\n Name: x") == tuple(layers)


@given(st.text())
def test_any_text_is_read_without_a_fault(text):
    assert from_log(text) == ()
    from_log(LAYERS + text)


def test_the_log_of_a_real_build():
    layers = from_log(LOG)
    assert [layer.kind for layer in layers[:4]] == ["shape_call", "kgen", "correlation", "kgen"]
    stem = layers[2]
    assert (stem.name, stem.inputs, stem.weights, stem.outputs) == (
        "node_Conv_870_myl0_2",
        ("Int8",),
        ("Int8", "Float", "Float"),
        ("Float",),
    )
    assert stem.nodes[0] == "node_Conv_870"
    assert stem.is_int8
    # The kernel after the convolution scales its result and names it too, but multiplies nothing in INT8.
    assert "node_Conv_775" in layers[3].nodes
    assert not layers[3].is_int8
    report = Report("log", layers, None, None, ("node_Conv_870", "node_Conv_775", "node_Conv_777", "absent"))
    assert report.not_int8 == ("node_Conv_777", "absent")
    assert report.kinds()["correlation Int8 -> Float"] == 2
    assert report.as_dict()["int8_wanted"] == 4


def test_a_convolution_that_is_not_int8_is_named():
    as_half = LOG.replace("Datatype: Int8", "Datatype: Half")
    wanted = ("node_Conv_870", "node_Conv_775", "node_Gemm_869")
    assert Report("log", from_log(LOG), None, None, wanted).not_int8 == ()
    assert Report("log", from_log(as_half), None, None, wanted).not_int8 == wanted


def test_an_addition_of_two_int8_tensors_is_no_int8_convolution():
    add = Layer("add", "kgen", ("Int8", "Int8"), ("Float",), ("Int8",), "", ("conv", "add"))
    product = Layer("product", "gemm", ("Int8", "Int8"), (), ("Half",), "", ("matmul",))
    assert Report("log", (add, product), None, None, ("conv", "matmul")).not_int8 == ("conv",)


def test_inspector_of_tensorrt_10():
    layers = from_inspector((GOLDEN / "inspector_10.json").read_text(encoding="utf-8"))
    reformat, stem, depthwise = layers
    assert reformat.is_reformat
    assert (reformat.inputs, reformat.outputs) == (("Float",), ("Int8",))
    assert (stem.inputs, stem.weights, stem.outputs) == (("Int8",), ("Int8",), ("Int8",))
    assert (depthwise.inputs, depthwise.weights) == (("Half",), ("Half",))
    report = Report("inspector", layers, None, None, ("stem", "depthwise"))
    assert report.not_int8 == ("depthwise",)
    assert report.reformats == 1


def test_inspector_of_tensorrt_11():
    (stem,) = from_inspector((GOLDEN / "inspector_11.json").read_text(encoding="utf-8"))
    assert (stem.inputs, stem.weights, stem.outputs) == (("Int8",), ("Int8",), ("Half",))
    assert stem.nodes == ("stem", "stem_relu")
    assert stem.is_int8


def test_layers_without_details_have_a_name_only():
    (layer,) = from_inspector('{"Layers": ["conv1 + relu1"], "Bindings": []}')
    assert layer == Layer("conv1 + relu1", "", (), (), (), "", ())


def test_parts_of_a_fused_layer_count_without_metadata():
    layer = Layer("conv1 + relu1", "CaskConvolution", ("Int8",), ("Int8",), ("Int8",), "", ())
    assert Report("inspector", (layer,), None, None, ("conv1",)).not_int8 == ()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Row major linear FP32", "Float"),
        ("Thirty-two wide channel vectorized row major Int8 format", "Int8"),
        ("Channel major BF16 format where channel % 8 == 0", "Bf16"),
        ("N/A due to dynamic shapes", ""),
    ],
)
def test_types_within_formats(text, kind):
    document = json.dumps({"Layers": [{"Name": "a", "Inputs": [{"Format/Datatype": text}]}]})
    assert from_inspector(document)[0].inputs == (kind,)
