"""Real networks, as finetune and calibrate write them: what each variant runs in, in a real engine."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tledge.engine.builder import build
from tledge.engine.settings import BuildSettings
from tledge.runtime import machine

pytest.importorskip("timm")
pytest.importorskip("torchvision")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.tensorrt,
    pytest.mark.skipif(not machine.cuda().reason, reason="of a machine without a GPU"),
]
HEAVY = ("correlation", "gemm", "runtime_fusion")  # the kinds of layers that multiply
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "networks.py"


def variants(name: str) -> dict[str, bytes]:
    spec = importlib.util.spec_from_file_location("benchmark_networks", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.variants(module.BACKBONES[name])


# One with depthwise convolutions, one with attention; benchmarks/engines.py builds all six.
@pytest.mark.parametrize(("name", "products"), [("lite0", 49), ("vit-tiny", 49)])
def test_each_variant_runs_in_its_type(rtx, name, products):
    settings = BuildSettings("tensorrt-rtx", batch=(1, 4, 8), targets=("sm86", "sm89"))
    for variant, data in variants(name).items():
        report = build(rtx, data, Path(f"{name}.{variant}.onnx"), settings, lambda *step: True).report
        if variant == "int8":
            assert len(report.wanted_int8) == products
            assert report.not_int8 == ()
            continue
        assert report.wanted_int8 == ()
        heavy = [layer for layer in report.layers if layer.kind in HEAVY]
        assert heavy
        assert {layer.inputs[0] for layer in heavy} == {"Float" if variant == "fp32" else "Half"}
