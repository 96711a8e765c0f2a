"""What both emissions share: scales, INT8 weights, and the nodes that carry them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tledge.quantization.ranges import Range

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

    from tledge.quantization.placement import Placement

Bits = Literal[7, 8]

# Scales below this would be lost where a backend keeps them as float32 with flushed subnormals.
LEAST_SCALE = float(np.finfo(np.float32).tiny) * 2**24
# The most that two weights of one sign may be together where their products with two bytes are added in 16
# bits with a sign: 128 x 255 is 32640, and 32767 the largest.
PAIR = 128


@dataclass(frozen=True)
class Correction:
    """For one layer: its weights' factor for each output channel, and its new bias.

    `offsets` are the steps by which its INT8 weights differ from the nearest ones (None: by none).
    """

    gain: NDArray[np.float32]
    bias: NDArray[np.float32]
    offsets: NDArray[np.int8] | None = None


@dataclass(frozen=True)
class Scale:
    """Real value = scale x (integer - zero_point)."""

    scale: float
    zero_point: int


def symmetric(found: Range) -> Scale:
    """Return the scale of signed INT8 with zero point 0: the largest magnitude becomes 127."""
    return Scale(max(float(np.float32(found.largest / 127)), LEAST_SCALE), 0)


def asymmetric(found: Range) -> Scale:
    """Return the scale of unsigned INT8: `low` becomes 0, `high` 255, and zero is a whole number."""
    scale = max(float(np.float32((found.high - found.low) / 255)), LEAST_SCALE)
    return Scale(scale, int(np.clip(round(-found.low / scale), 0, 255)))


def weights(
    values: NDArray[np.float32],
    axis: int,
    least: NDArray[np.float64] | float = 0.0,
    gain: NDArray[np.float32] | float = 1.0,
    offsets: NDArray[np.int8] | None = None,
    *,
    bits: Bits = 8,
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return signed INT8 weights and their scales, one for each index along `axis`.

    The largest magnitude of a channel becomes 127: -128 is not used, so that weights are symmetric. With 7
    bits no two weights of one sign in a channel are more than `PAIR` together, whichever of them meet: all
    are within 64 but for one that is much larger than the others of its sign.

    Args:
        values: The float weights.
        axis: Of the output channels.
        least: No scale is smaller than this.
        gain: What the scales are multiplied by after rounding: the integers stay.
        offsets: Steps added to the integers, but where `least` made the scale another one.
        bits: 7 where pairs of products must not saturate (see `tledge.quantization.narrow`).
    """
    moved = np.moveaxis(np.asarray(values, np.float64), axis, 0)
    needed = _largest_step(moved.reshape(len(moved), -1), bits)
    scales = np.maximum(np.maximum(needed, least), LEAST_SCALE).astype(np.float32)
    integers = np.round(moved / along(scales, 0, moved.ndim))
    if offsets is not None:
        kept = needed >= np.maximum(least, LEAST_SCALE)
        integers += np.moveaxis(offsets, axis, 0) * along(kept, 0, moved.ndim)
    integers = np.clip(integers, -127, 127).astype(np.int8)
    return np.ascontiguousarray(np.moveaxis(integers, 0, axis)), (scales * gain).astype(np.float32)


def _largest_step(rows: NDArray[np.float64], bits: Bits) -> NDArray[np.float64]:
    """Return the scale of each channel, the rows of a matrix."""
    steps: NDArray[np.float64] = np.abs(rows).max(axis=1) / 127
    if bits == 7:
        ordered = np.sort(rows, axis=1)
        up, down = np.maximum(ordered[:, -2:], 0).sum(axis=1), -np.minimum(ordered[:, :2], 0).sum(axis=1)
        # Half a step of room, as both may be rounded up.
        steps = np.maximum(steps, np.maximum(up, down) / (PAIR - 0.5))
    return steps


def limits(integers: NDArray[np.float32], bits: Bits) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return how far each weight may move down and up (... x weights of a channel), all of them at once."""
    if bits == 8:
        return np.full_like(integers, -127), np.full_like(integers, 127)
    half = np.float32(PAIR // 2)

    def most(values: NDArray[np.float32]) -> NDArray[np.float32]:
        top = np.maximum(values.max(axis=-1, keepdims=True), half)
        return np.where(values > half, values, PAIR - top)

    return -most(-integers), most(integers)


def weight_noise(values: NDArray[np.float32], axis: int, bits: Bits = 8) -> float:
    """Return the power of the rounding error of INT8 weights over the power of the weights."""
    integers, scales = weights(values, axis, bits=bits)
    error = integers * along(scales, axis, values.ndim) - values
    power = float(np.square(values, dtype=np.float64).sum())
    return float(np.square(error).sum()) / power if power else 0.0


def along(values: NDArray[Any], axis: int, dimensions: int) -> NDArray[np.float64]:
    """Return one value a channel as an array that multiplies along `axis` of another."""
    shape = [1] * dimensions
    shape[axis] = -1
    return values.astype(np.float64).reshape(shape)


def shared(found: Mapping[str, Range], placement: Placement) -> dict[str, Range]:
    """Return the range of each tensor of the placement; those of one group get the widest of the group."""
    ranges = {name: found[name] for name in placement.tensors}
    for group in placement.groups:
        low, high = min(found[name].low for name in group), max(found[name].high for name in group)
        ranges.update(dict.fromkeys(group, Range(low, high)))
    return ranges


class Emitter:
    """Collects the nodes and constants of a graph that is being written anew, in order."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.nodes: list[NodeProto] = []
        self._known = {t.name for t in model.graph.initializer}

    def constant(self, name: str, values: Any) -> str:
        """Add a constant and return its name."""
        from onnx import numpy_helper

        if name not in self._known:
            self._known.add(name)
            self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, op: str, inputs: Iterable[str], output: str, **attributes: Any) -> str:
        """Add a node named after its output, and return that."""
        from onnx import helper

        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def quantise(self, tensor: str, scale: Scale, dtype: type[np.int8] | type[np.uint8]) -> str:
        """Add Q and DQ of an activation, and return the name of what DQ makes."""
        parts = [
            self.constant(f"{tensor}.scale", np.float32(scale.scale)),
            self.constant(f"{tensor}.zero_point", dtype(scale.zero_point)),
        ]
        integers = self.node("QuantizeLinear", [tensor, *parts], f"{tensor}.int8")
        return self.node("DequantizeLinear", [integers, *parts], f"{tensor}.back")

    def set_bias(self, node: NodeProto, name: str) -> None:
        """Give a weighted node the bias `name`."""
        if len(node.input) > 2:
            node.input[2] = name
        else:
            node.input.append(name)

    def dequantise(self, name: str, integers: NDArray[Any], scales: NDArray[np.float32], axis: int) -> str:
        """Add a constant in integers with its DQ, and return the name of what DQ makes."""
        parts = [
            self.constant(f"{name}.{integers.dtype.name}", integers),
            self.constant(f"{name}.scale", scales),
            self.constant(f"{name}.zero_point", np.zeros(scales.shape, integers.dtype)),
        ]
        return self.node("DequantizeLinear", parts, f"{name}.back", axis=axis)
