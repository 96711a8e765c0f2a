from __future__ import annotations

import pytest
import torch
from torch import nn

from tledge.training.depthwise import FloatGradients, _Depthwise
from tledge.training.device import Device


def convolution(groups: int = 8, bias: bool = True, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(8, 16, 3, stride, 1, dilation, groups, bias)


def gradients(layer: nn.Module, *, bf16: bool) -> list[torch.Tensor]:
    """Return the output, and the gradients of the input and of each weight."""
    torch.manual_seed(1)
    x = torch.randn(4, 8, 9, 7, requires_grad=True)
    with Device("cpu", bf16).autocast():
        y = layer(x)
    inside = [parameter.grad for parameter in layer.parameters()]
    assert inside == [None] * len(inside)
    (y.float() ** 2).sum().backward()
    found = [y.detach(), x.grad, *(parameter.grad for parameter in layer.parameters())]
    layer.zero_grad()
    return found


@pytest.mark.parametrize(
    "layer",
    [
        convolution(),
        convolution(bias=False),
        convolution(stride=2),
        convolution(dilation=2),
        convolution(groups=1),
        convolution(groups=2),
        nn.Conv2d(8, 8, 3, padding="same", groups=8),
    ],
)
def test_gradients_are_those_of_float32_but_for_bfloat16s_rounding(layer):
    expected, found = gradients(layer, bf16=False), gradients(layer, bf16=True)
    for one, other in zip(expected, found, strict=True):
        assert (other.float() - one).norm() <= 0.02 * one.norm()
    assert found[0].dtype == torch.bfloat16
    assert all(gradient.dtype == torch.float32 for gradient in found[1:])


def test_the_forward_pass_has_the_bits_of_autocast():
    layer, x = convolution(), torch.randn(4, 8, 9, 7)
    with torch.autocast("cpu", torch.bfloat16):
        expected = layer(x)
        with FloatGradients():
            found = layer(x)
    assert torch.equal(found, expected)


def test_frozen_layers_pass_gradients_on():
    layer = convolution().requires_grad_(False)
    x = torch.randn(2, 8, 5, 5, requires_grad=True)
    with Device("cpu", bf16=True).autocast():
        layer(x).float().sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is None


def test_only_depthwise_layers_that_learn_are_replaced(monkeypatch):
    seen = []
    monkeypatch.setattr(_Depthwise, "apply", lambda x, *rest: seen.append(x.shape))
    with Device("cpu", bf16=True).autocast():
        convolution(groups=2)(torch.zeros(1, 8, 5, 5))
        with torch.no_grad():
            convolution()(torch.zeros(1, 8, 5, 5))
        assert seen == []
        convolution()(torch.zeros(1, 8, 5, 5))
    assert len(seen) == 1
