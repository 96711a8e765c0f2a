"""Gradients of depthwise convolutions in float32, where a CPU trains in bfloat16.

oneDNN has no fast bfloat16 kernel for the gradients of depthwise convolutions: on a Xeon with AMX they took
three quarters of a step of EfficientNet-Lite0, which was slower than in float32. Everything else stays in
bfloat16, their forward pass too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

REST = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}  # what conv2d takes after the bias


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, rest: dict[str, Any]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.rest = rest
        ctx.bias = None if bias is None else list(bias.shape)
        # Under the caller's autocast, as the convolution would be without all this.
        return torch.conv2d(x, weight, bias, **rest)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, dilation = (_pair(ctx.rest[name]) for name in ("stride", "padding", "dilation"))
        to_x, to_weight, to_bias = torch.ops.aten.convolution_backward(
            gradients[0].float(),
            x.float(),
            weight.float(),
            ctx.bias,
            stride,
            padding,
            dilation,
            False,
            [0, 0],
            ctx.rest["groups"],
            [*ctx.needs_input_grad[:2], ctx.bias is not None],
        )
        return (None if to_x is None else to_x.to(x.dtype)), to_weight, to_bias, None


class FloatGradients(TorchFunctionMode):
    """While it is entered, depthwise convolutions that learn compute their gradients in float32."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call `func`, or what stands in for it."""
        kwargs = kwargs or {}
        if func is torch.conv2d and torch.is_grad_enabled():
            return _convolve(*args, **kwargs)
        return func(*args, **kwargs)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, *given: Any, **named: Any) -> Any:
    rest = REST | dict(zip(REST, given, strict=False)) | named
    depthwise = rest["groups"] == x.shape[1] > 1 and not isinstance(rest["padding"], str)
    return _Depthwise.apply(x, weight, bias, rest) if depthwise else torch.conv2d(x, weight, bias, **rest)


def _pair(value: int | Sequence[int]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)
