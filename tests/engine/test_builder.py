"""The builder on TensorRT for RTX, which needs no GPU: real engines, and every way to be a bad graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.engine import networks
from tledge.engine import builder
from tledge.engine.builder import Cancelled, build
from tledge.engine.settings import BuildSettings
from tledge.errors import InputError, MachineError, TledgeError, UsageError
from tledge.runtime import machine

PATH = Path("model.onnx")
SM86 = BuildSettings("tensorrt-rtx", batch=(1, 4, 8), targets=("sm86",))

pytestmark = [
    pytest.mark.tensorrt,
    pytest.mark.skipif(not machine.cuda().reason, reason="these tests are of a machine without a GPU"),
]


def always(phase: str, steps: int, done: int) -> bool:
    return True


@pytest.mark.parametrize("variant", ["fp32", "fp16", "int8", "int8-half"])
def test_each_precision_is_what_its_graph_says(rtx, variant):
    built = build(rtx, networks.network(variant), PATH, SM86, always)
    assert len(built.plan) > 1000
    assert [(port.name, port.dtype, port.shape) for port in built.inputs] == [
        ("images", "FLOAT", (-1, 3, networks.SIZE, networks.SIZE))
    ]
    assert [(port.name, port.shape) for port in built.outputs] == [("logits", (-1, networks.CLASSES))]
    report = built.report
    assert report.source == "log"
    assert report.not_int8 == ()
    heavy = [layer for layer in report.layers if layer.kind in ("correlation", "gemm")]
    assert heavy
    wanted = {"fp32": "Float", "fp16": "Half"}.get(variant, "Int8")
    assert {kind for layer in heavy for kind in layer.inputs} == {wanted}
    assert len(report.wanted_int8) == (4 if wanted == "Int8" else 0)
    assert report.activation_bytes
    assert report.weight_bytes


def test_one_engine_for_several_gpus(rtx):
    settings = BuildSettings("tensorrt-rtx", targets=("sm86", "sm89", "sm120"))
    assert build(rtx, networks.network(), PATH, settings, always).plan


def test_a_fixed_batch_needs_no_profile(rtx):
    settings = BuildSettings("tensorrt-rtx", batch=(2, 2, 2), targets=("sm86",))
    built = build(rtx, networks.network(batch=2), PATH, settings, always)
    assert built.inputs[0].shape[0] == 2
    with pytest.raises(UsageError, match="fixed batch of 2, and 1:4:8") as caught:
        build(rtx, networks.network(batch=2), PATH, SM86, always)
    assert "--batch 2" in caught.value.hint


def test_dynamic_height_and_width_are_those_of_the_preprocessing(rtx):
    data = networks.network(size="S")
    settings = BuildSettings("tensorrt-rtx", image=(3, 24, 24), targets=("sm86",))
    assert build(rtx, data, PATH, settings, always).plan
    with pytest.raises(InputError, match="an image is"):
        build(rtx, data, PATH, SM86, always)


def test_progress_is_told_and_can_stop_the_build(rtx):
    phases = []
    build(rtx, networks.network(), PATH, SM86, lambda *step: bool(phases.append(step)) or True)
    assert "Building engine" in {phase for phase, _, _ in phases}
    assert all(1 <= done <= max(steps, 1) for _, steps, done in phases)
    with pytest.raises(Cancelled):
        build(rtx, networks.network(), PATH, SM86, lambda *step: False)
    assert build(rtx, networks.network(), PATH, SM86, always).plan, "the process is still usable"


def test_a_watcher_that_is_gone_stops_the_build(rtx):
    def gone(phase: str, steps: int, done: int) -> bool:
        raise BrokenPipeError

    with pytest.raises(Cancelled):
        build(rtx, networks.network(), PATH, SM86, gone)


def test_too_small_a_workspace_is_a_lack_of_memory(rtx):
    settings = BuildSettings("tensorrt-rtx", batch=(1, 64, 512), workspace_mib=1, targets=("sm86",))
    with pytest.raises(MachineError, match=r"not enough memory .* the workspace was 1 MiB") as caught:
        build(rtx, networks.network(), PATH, settings, always)
    assert "--workspace" in caught.value.hint


@pytest.mark.parametrize("target", ["sm87", "sm90", "sm110"])
def test_gpus_that_it_does_not_build_for_are_named(rtx, target):
    with pytest.raises(UsageError, match=f"does not build for {target}") as caught:
        build(rtx, networks.network(), PATH, BuildSettings("tensorrt-rtx", targets=(target,)), always)
    assert "sm86" in caught.value.hint
    assert "Jetson" in caught.value.hint


def mixed_types() -> bytes:
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], name="cast", to=TensorProto.FLOAT16),
        helper.make_node("Add", ["x", "h"], ["y"], name="add"),
    ]
    return networks.model(nodes, [networks.value("x", [1, 3])], [networks.value("y", [1, 3])])


def no_outputs() -> bytes:
    return networks.model([helper.make_node("Relu", ["x"], ["y"])], [networks.value("x", [1, 3])], [])


BAD = {
    "empty": (b"", "holds no ONNX graph"),
    "no ONNX": (b"hello world, not onnx", "not a whole ONNX file|holds no ONNX graph"),
    "cut off": (networks.network()[:-1], "not a whole ONNX file"),
    "half": (networks.network()[:500], "not a whole ONNX file"),
    "unknown operator": (networks.one_node("Det"), r"cannot take the node 'odd' \(Det\)"),
    "custom domain": (networks.one_node("Foo", domain="com.example"), r"'odd' \(Foo\).*Plugin not found"),
    "mixed types": (mixed_types(), r"'add' \(Add\).*same input types.*Float and Half"),
    "16-bit input": (networks.one_node("Relu", dtype=TensorProto.UINT16), "cannot read|cannot take"),
    "no outputs": (no_outputs(), "cannot|0 outputs"),
    "new opset": (networks.network(opset=26), "opset 26"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_graphs_are_refused_with_a_reason(rtx, name):
    data, said = BAD[name]
    with pytest.raises(TledgeError, match=said) as caught:
        build(rtx, data, PATH, SM86, always)
    assert caught.value.exit_code == 4
    assert caught.value.hint
    assert "cudaError" not in str(caught.value)
    assert caught.value.path == "model.onnx"


def test_an_unsupported_operator_is_named_with_its_subgraph(rtx):
    with pytest.raises(InputError) as caught:
        build(rtx, networks.one_node("Det"), PATH, SM86, always)
    assert "In no part of the graph that it can take: odd (Det)." in caught.value.hint


def test_a_gpu_that_cannot_run_a_node_is_named(rtx):
    settings = BuildSettings("tensorrt-rtx", targets=("sm75",))
    weights = numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"], name="product")]
    data = networks.model(nodes, [networks.value("x", [1, 64])], [networks.value("y", [1, 64])], [weights])
    with pytest.raises(InputError, match=r"'product' of model.onnx for Turing \(SM75\): FP32 GEMM"):
        build(rtx, data, PATH, settings, always)


def test_the_networks_are_strongly_typed(rtx):
    flags = builder.network_flags(rtx.module)
    log, _ = builder.logger(rtx.module)
    network = rtx.module.Builder(log).create_network(flags)
    assert network.get_flag(rtx.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def test_only_what_is_read_is_kept_of_the_log(rtx):
    build(rtx, networks.network(), PATH, SM86, always)
    _, messages = builder.logger(rtx.module)
    verbose = [text for severity, text in messages.entries if severity == "verbose"]
    assert len(verbose) == 1
    assert verbose[0].count("LayerType: ") > 3
