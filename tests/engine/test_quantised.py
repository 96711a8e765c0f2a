"""What calibrate writes for TensorRT is built by TensorRT, and every layer that it quantised runs in INT8."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine import networks
from tledge.engine.builder import build
from tledge.engine.settings import BuildSettings
from tledge.runtime import machine

pytest.importorskip("onnxruntime")

from tledge.quantization import emit_trt, fp16
from tledge.quantization.graph import Graph, load, simplify
from tledge.quantization.placement import place
from tledge.quantization.ranges import Range

pytestmark = [
    pytest.mark.tensorrt,
    pytest.mark.skipif(not machine.cuda().reason, reason="of a machine without a GPU"),
]


@pytest.mark.parametrize("half", [False, True])
def test_the_int8_graph_of_calibrate_runs_in_int8(rtx, half):
    model = load(networks.network())
    simplify(model)
    placement = place(Graph(model), "int8")
    written = emit_trt.emit(model, placement, {name: Range(-4.0, 4.0) for name in placement.tensors}, {})
    data = (fp16.convert(written) if half else written).SerializeToString()
    settings = BuildSettings("tensorrt-rtx", batch=(1, 4, 8), targets=("sm86", "sm89", "sm120"))
    report = build(rtx, data, Path("int8.onnx"), settings, lambda *step: True).report
    assert "point" in report.wanted_int8
    assert report.not_int8 == ()
