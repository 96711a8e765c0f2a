"""The float graph of a bundle as a torch network that rounds where its `int8` variant will.

The graph is run node by node as ONNX defines its operators, with batch norms folded as the exporter folds
them. Inputs of INT8 layers, and the shortcuts of residual sums, are rounded with the scales of the
calibration; weights with a scale for each output channel that follows them. Gradients go straight through
the rounding, and stop where a value is cut off (Jacob et al., 2018; Bengio et al., 2013).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as f

from tledge.errors import InputError
from tledge.models import Network
from tledge.quantization import emit_trt
from tledge.quantization.graph import Graph, attributes
from tledge.quantization.placement import Placement
from tledge.quantization.qdq import LEAST_SCALE
from tledge.quantization.ranges import Range

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclass(frozen=True)
class Step:
    """One node: operator, name, the tensors that it reads and makes, attributes."""

    op: str
    name: str
    inputs: tuple[str, ...]
    output: str
    given: Mapping[str, Any]


class GraphBody(nn.Module):
    """The network of a graph, N x 3 x H x W to logits; rounds as `placement` says, or not at all without one.

    Weights and biases of convolutions and matrix products are its parameters; other constants are fixed.
    """

    def __init__(
        self, model: ModelProto, placement: Placement | None, ranges: Mapping[str, Range] | None = None
    ) -> None:
        """Raises InputError where the graph has an operator that is not known here."""
        super().__init__()
        graph = Graph(model)
        self.steps = [_step(node) for node in graph.nodes]
        self.input, self.output = graph.input, graph.outputs[0]
        layers = {layer.node: layer for layer in placement.layers} if placement else {}
        self.axes = {name: layer.axis for name, layer in layers.items()}
        self.shortcuts = dict(placement.sums) if placement else {}
        halves, scales = emit_trt.scales(placement, ranges or {}) if placement else ({}, {})
        # Scale and middle of each tensor that is rounded.
        self.rounding = {name: (scale.scale, halves.get(name, 0.0)) for name, scale in scales.items()}
        learnt = {
            name
            for step in self.steps
            if step.op in WEIGHTED
            for name in step.inputs[1:]
            if name in graph.constants
        }
        self.learnt = nn.ParameterDict()
        self.fixed: dict[str, Tensor] = {}
        for name, array in graph.constants.items():
            value = torch.from_numpy(array.copy())
            if name in learnt:
                self.learnt[_key(name)] = nn.Parameter(value)
            elif value.is_floating_point() and value.ndim:
                self.register_buffer(_key(name), value, persistent=False)
            else:
                self.fixed[name] = value  # shapes, axes and bounds are read on the CPU
        last = {name: index for index, step in enumerate(self.steps) for name in step.inputs}
        self.dropped: list[list[str]] = [[] for _ in self.steps]
        for name, index in last.items():
            if name not in graph.constants and name != self.output:
                self.dropped[index].append(name)

    def weight(self, name: str) -> Tensor:
        """Return the weight or bias that the graph calls `name`."""
        found: Tensor = self.learnt[_key(name)]
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, N x classes."""
        values: dict[str, Tensor] = {self.input: images}
        rounded: dict[str, Tensor] = {}
        for step, dropped in zip(self.steps, self.dropped, strict=True):
            read = [self._value(name, values) for name in step.inputs]
            for index, name in enumerate(step.inputs):
                into_layer = step.name in self.axes and index == 0
                if into_layer or self.shortcuts.get(step.name) == name:
                    if name not in rounded:
                        rounded[name] = self._rounded(name, values[name])
                    read[index] = rounded[name]
            if step.name in self.axes:
                read[1] = _rounded_weight(read[1], self.axes[step.name])
            values[step.output] = OPERATORS[step.op](step, *read)
            for name in dropped:
                values.pop(name)
                rounded.pop(name, None)
        return values[self.output]

    def _value(self, name: str, values: Mapping[str, Tensor]) -> Any:
        if not name:
            return None
        if name in values:
            return values[name]
        if _key(name) in self.learnt:
            return self.learnt[_key(name)]
        return self.fixed[name] if name in self.fixed else getattr(self, _key(name))

    def _rounded(self, name: str, value: Tensor) -> Tensor:
        scale, middle = self.rounding[name]
        moved = torch.fake_quantize_per_tensor_affine(value.float() - middle, scale, 0, -128, 127)
        return moved + middle


def student(
    model: ModelProto, placement: Placement, ranges: Mapping[str, Range], config: dict[str, Any]
) -> Network:
    """Return the network that is trained; `config` is that of the network that the graph came from."""
    return Network(GraphBody(model, placement, ranges), nn.Identity(), config)


def teacher(model: ModelProto, config: dict[str, Any]) -> Network:
    """Return the float network that the student is to answer like."""
    return Network(GraphBody(model, None), nn.Identity(), config).requires_grad_(False).eval()


@torch.no_grad()
def write_back(body: GraphBody, network: Network, model: ModelProto) -> None:
    """Put the graph's weights into the torch network that `model` was exported from.

    A batch norm that the graph has folded into its convolution becomes the identity plus the bias.

    Raises:
        InputError: a layer of the graph is no module of the network.
    """
    norms = _norms(network)
    kept = {node.input[0] for node in model.graph.node if node.op_type == "BatchNormalization"}
    modules = dict(network.named_modules())
    for step in body.steps:
        if step.op not in WEIGHTED or _key(step.inputs[1]) not in body.learnt:
            continue
        module = modules.get(step.name)
        if not isinstance(module, nn.Conv2d | nn.Linear):
            raise InputError(
                f"the layer {step.name} is no module of {network.config['backbone']}",
                hint="It cannot be trained with --qat. `tledge calibrate` alone takes any network.",
            )
        module.weight.copy_(body.weight(step.inputs[1]).reshape(module.weight.shape))
        bias = body.weight(step.inputs[2]) if len(step.inputs) > 2 else None
        norm = norms.get(module) if step.output not in kept else None
        if norm is not None and bias is not None:
            norm.running_mean.zero_()
            norm.running_var.fill_(1 - norm.eps)
            norm.weight.fill_(1.0)
            norm.bias.copy_(bias)
            if module.bias is not None:
                module.bias.zero_()
        elif bias is not None and module.bias is not None:
            module.bias.copy_(bias)


def _norms(network: Network) -> dict[nn.Module, Any]:
    """Return the batch norm that reads each convolution's output, as one image goes through the network."""
    outputs: dict[int, nn.Module] = {}
    alive: list[Tensor] = []  # an address is a name only while the tensor lives
    found: dict[nn.Module, Any] = {}

    def see(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and id(inputs[0]) in outputs:
            found[outputs[id(inputs[0])]] = module
        elif isinstance(module, nn.Conv2d):
            alive.append(output)
            outputs[id(output)] = module

    hooks = [module.register_forward_hook(see) for module in network.modules()]
    try:
        network.eval()(torch.zeros(1, 3, *network.config["size"]))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _rounded_weight(weight: Tensor, axis: int) -> Tensor:
    others = [dim for dim in range(weight.ndim) if dim != axis]
    scales = (weight.detach().abs().amax(dim=others) / 127).clamp(min=LEAST_SCALE)
    zeros = torch.zeros(len(scales), dtype=torch.int32, device=weight.device)
    return torch.fake_quantize_per_channel_affine(weight, scales, zeros, axis, -127, 127)


def _key(name: str) -> str:
    # torch keeps dots for modules.
    return name.replace(".", "|")


def _step(node: Any) -> Step:
    if node.op_type not in OPERATORS or len(node.output) != 1:
        raise InputError(
            f"training with rounding does not know the operator {node.op_type} of {node.name}",
            hint="It knows those of convolutional networks. `tledge calibrate` alone takes any graph.",
        )
    return Step(node.op_type, node.name, tuple(node.input), node.output[0], attributes(node))


def _convolution(step: Step, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    given = step.given
    pads = given.get("pads", [0] * 2 * (weight.ndim - 2))
    before, after = pads[: len(pads) // 2], pads[len(pads) // 2 :]
    if before != after:
        # torch pads both sides alike: what is uneven is padded before. The last dimension comes first there.
        x = f.pad(x, [side for pair in zip(before[::-1], after[::-1], strict=True) for side in pair])
        before = [0] * len(before)
    return torch.convolution(
        x,
        weight,
        bias,
        given.get("strides", [1] * len(before)),
        before,
        given.get("dilations", [1] * len(before)),
        False,
        [0] * len(before),
        given.get("group", 1),
    )


def _gemm(step: Step, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    given = step.given
    product = (a.t() if given.get("transA", 0) else a) @ (b.t() if given.get("transB", 0) else b)
    product = float(given.get("alpha", 1.0)) * product
    return product if c is None else product + float(given.get("beta", 1.0)) * c


def _max_pool(step: Step, x: Tensor) -> Tensor:
    given, size = step.given, step.given["kernel_shape"]
    pads = given.get("pads", [0] * 2 * len(size))
    sides = [side for low, high in zip(pads[1::-1], pads[:1:-1], strict=True) for side in (low, high)]
    x = f.pad(x, sides, value=float("-inf")) if any(sides) else x
    strides, dilations = given.get("strides", [1] * len(size)), given.get("dilations", [1] * len(size))
    return f.max_pool2d(x, size, strides, 0, dilations, bool(given.get("ceil_mode", 0)))


def _mean(step: Step, x: Tensor, axes: Tensor | None = None) -> Tensor:
    dims = [int(axis) for axis in axes.tolist()] if axes is not None else step.given.get("axes")
    return x.mean(dim=dims, keepdim=bool(step.given.get("keepdims", 1)))


def _clip(step: Step, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    return x.clamp(None if low is None else float(low), None if high is None else float(high))


def _reshape(step: Step, x: Tensor, shape: Tensor) -> Tensor:
    wanted = [x.shape[i] if size == 0 else int(size) for i, size in enumerate(shape.tolist())]
    return x.reshape(wanted)


def _hard_sigmoid(step: Step, x: Tensor) -> Tensor:
    slope, offset = float(step.given.get("alpha", 0.2)), float(step.given.get("beta", 0.5))
    return (slope * x + offset).clamp(0.0, 1.0)


# The operators of convolutional networks, as the exporter writes them: https://onnx.ai/onnx/operators/.
WEIGHTED = ("Conv", "Gemm", "MatMul")
OPERATORS: dict[str, Any] = {
    "Conv": _convolution,
    "Gemm": _gemm,
    "MatMul": lambda step, a, b: a @ b,
    "BatchNormalization": lambda step, x, weight, bias, mean, variance: f.batch_norm(
        x, mean, variance, weight, bias, eps=step.given.get("epsilon", 1e-5)
    ),
    "Relu": lambda step, x: f.relu(x),
    "Clip": _clip,
    "Sigmoid": lambda step, x: torch.sigmoid(x),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda step, x: f.hardswish(x),
    "Add": lambda step, a, b: a + b,
    "Mul": lambda step, a, b: a * b,
    "MaxPool": _max_pool,
    "ReduceMean": _mean,
    "GlobalAveragePool": lambda step, x: x.mean(dim=(2, 3), keepdim=True),
    "Reshape": _reshape,
    "Flatten": lambda step, x: x.flatten(1),
    "Concat": lambda step, *parts: torch.cat(parts, dim=step.given["axis"]),
}
