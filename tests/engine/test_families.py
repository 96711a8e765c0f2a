"""Each recipe's family, with random weights: TensorRT builds its `int8`, and what should run in INT8 does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tledge.engine.builder import build
from tledge.engine.settings import BuildSettings
from tledge.quantization import emit_trt, fp16, recipe
from tledge.quantization.graph import Graph, load
from tledge.quantization.placement import place
from tledge.quantization.ranges import Range
from tledge.runtime import machine

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.tensorrt,
    pytest.mark.skipif(not machine.cuda().reason, reason="of a machine without a GPU"),
]

# Of each family the network that exports fastest, and the least of its layers that are to be INT8.
NETWORKS = {
    "efficientnet-lite": ("efficientnet-lite0", 64, 49),
    "mobilenetv2": ("timm:mobilenetv2_050", 64, 40),
    "mobilenetv3": ("timm:mobilenetv3_small_050", 64, 30),
    "mobilenetv4": ("timm:mobilenetv4_conv_small_050", 64, 30),
    "resnet": ("timm:resnet10t", 64, 12),
    "regnet": ("timm:regnetx_002", 64, 40),
    "squeezenet": ("torchvision:squeezenet1_1", 64, 25),
    "vgg": ("torchvision:vgg11", 32, 8),
    "vit": ("timm:vit_tiny_patch16_224", 32, 40),
}


def test_every_family_is_here() -> None:
    assert set(NETWORKS) == set(recipe.names()) - {recipe.GENERAL}


@pytest.mark.parametrize("family", NETWORKS)
def test_what_should_run_in_int8_does(rtx, family: str) -> None:
    import torch

    from tledge.export import to_onnx
    from tledge.models import create

    backbone, side, least = NETWORKS[family]
    torch.manual_seed(0)
    network, spec = create(backbone, 5, weights="none", image_size=side)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # Statistics of a trained network leave biases that are not zero; the exporter drops zeros.
            module.running_mean.normal_()
    model = load(to_onnx(network, spec, ["a", "b", "c", "d", "e"]))
    graph = Graph(model)
    placement = place(graph, "int8", recipe.find(family).floating(graph))
    written = emit_trt.emit(model, placement, {name: Range(-4.0, 4.0) for name in placement.tensors}, {})
    data = fp16.convert(written).SerializeToString()
    report = build(rtx, data, Path("int8.onnx"), BuildSettings("tensorrt-rtx"), lambda *step: True).report
    assert len(placement.layers) >= least
    assert set(report.wanted_int8) >= {layer.node for layer in placement.layers}
    assert report.not_int8 == ()
