"""The network that is trained rounds as its INT8 graph does, and its weights find their way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tledge.errors import InputError
from tledge.export import to_onnx
from tledge.models import create
from tledge.quantization import emit_trt
from tledge.quantization.graph import Graph, load, session, with_outputs
from tledge.quantization.placement import place
from tledge.quantization.ranges import Range
from tledge.training.quantised import GraphBody, student, teacher, write_back

# A residual network with ReLU6 (centring), one with squeeze-and-excitation, one with Concat and pooling.
BACKBONES = (
    "efficientnet-lite0",
    "torchvision:mobilenet_v3_small",
    "torchvision:squeezenet1_1",
    "tledge:cnn",
)


def run(model, images, outputs=None):
    return session(model, 1, integer=False).run(outputs, {"input": images})


@pytest.fixture(scope="module", params=BACKBONES)
def case(request):
    """Return a random network with lively batch norms, its graph, placement, and ranges of eight images."""
    torch.manual_seed(1)
    network, spec = create(request.param, 5, weights="none", image_size=64)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            module.bias.data.normal_(0, 0.2)
    network.eval()
    model = load(to_onnx(network, spec, [str(i) for i in range(5)]))
    placement = place(Graph(model), "int8")
    images = np.random.default_rng(0).normal(size=(8, *spec.shape)).astype(np.float32)
    seen = run(with_outputs(model, [t for t in placement.tensors if t != "input"]), images)
    tensors = [t for t in placement.tensors if t != "input"]
    ranges = {name: Range(float(v.min()), float(v.max())) for name, v in zip(tensors, seen, strict=True)}
    ranges["input"] = Range(float(images.min()), float(images.max()))
    return network, spec, model, placement, ranges, images


def test_without_rounding_it_is_the_network(case):
    network, _, model, _, _, images = case
    with torch.no_grad():
        ours = teacher(model, network.config)(torch.from_numpy(images))
        theirs = network(torch.from_numpy(images))
    assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


def test_with_rounding_it_answers_as_the_int8_graph(case):
    network, _, model, placement, ranges, images = case
    with torch.no_grad():
        ours = student(model, placement, ranges, network.config)(torch.from_numpy(images)).numpy()
    (theirs,) = run(emit_trt.emit(model, placement, ranges), images)
    (exact,) = run(model, images)
    difference = np.abs(ours - theirs).max(axis=1)
    # Where a value lies on the edge between two steps it may fall either way, and others after it; in images
    # that have none, all is the same.
    assert (difference < 1e-5 * np.abs(theirs).max()).sum() >= 2
    assert np.abs(exact - theirs).max() > 1e-4 * np.abs(theirs).max()


def test_every_weight_learns_and_finds_its_way_back(case):
    network, spec, model, placement, ranges, images = case
    trained = student(model, placement, ranges, network.config)
    body = trained.body
    assert isinstance(body, GraphBody)
    trained(torch.from_numpy(images)).square().mean().backward()
    assert all(value.grad is not None for value in body.learnt.values())
    with torch.no_grad():
        for value in body.learnt.values():
            value.mul_(1 + 0.1 * torch.rand_like(value))
    fresh = create(network.config["backbone"], 5, weights="none", image_size=64)[0]
    fresh.load_state_dict(network.state_dict())
    write_back(body, fresh.eval(), model)
    again = load(to_onnx(fresh, spec, [str(i) for i in range(5)]))
    known = Graph(again).constants
    for name, value in body.learnt.items():
        np.testing.assert_allclose(
            known[name.replace("|", ".")], value.detach().numpy(), rtol=1e-5, atol=1e-6
        )


def test_an_unknown_operator_is_named():
    network, spec = create("timm:vit_tiny_patch16_224", 5, weights="none", image_size=32)
    with pytest.raises(InputError, match="does not know the operator"):
        teacher(load(to_onnx(network, spec, [str(i) for i in range(5)])), network.config)
