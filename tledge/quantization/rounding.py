"""Learned rounding: which way each weight is rounded, so that a layer's output, not its weights, stays near.

Rounding to the nearest is best for one weight alone. In a layer the errors add up over its inputs, and inputs
that go together can have errors that cancel: with H the covariance of the inputs, an output channel with the
error e in its weights is wrong by e' H e. It is made small by coordinate descent: weight after weight moves
by whole steps to where the others want it, until none moves (QuantEase, arXiv 2309.01885; the measure is that
of GPTQ and of Optimal Brain Surgeon). The mean of the inputs is left out of H: the bias takes up what it
shifts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tledge.quantization.graph import Graph, attributes
from tledge.quantization.qdq import Bits, limits, weights

if TYPE_CHECKING:
    from onnx import NodeProto

Array = NDArray[np.float32]

SWEEPS = 6  # over all weights of a layer; few still move after the third
# Values of one layer's inputs that the covariance is taken from: 64 MB.
SAMPLE = 16 * 2**20
# Inputs hardly seen leave H without a bottom; this share of its mean diagonal is added, as in GPTQ.
DAMPING = 0.01


def learn(values: Array, covariance: NDArray[np.float64], axis: int = 0, bits: Bits = 8) -> NDArray[np.int8]:
    """Return the steps by which the INT8 weights are to differ from the nearest ones.

    Args:
        values: Float weights of a convolution (out x in / groups x ...) or a product.
        covariance: Of the inputs of one output, groups x K x K, K the weights of an output channel.
        axis: Of the output channels.
        bits: Of the weights: 7 where pairs of products must not saturate.
    """
    nearest, scales = weights(values, axis, bits=bits)
    moved = np.moveaxis(values, axis, 0)
    groups, size = covariance.shape[:2]
    start = np.moveaxis(nearest, axis, 0).reshape(groups, -1, size).astype(np.float32)
    step = scales.reshape(groups, -1)
    error = start * step[..., None] - moved.reshape(groups, -1, size)
    damped = covariance + DAMPING * np.einsum("gkk->g", covariance)[:, None, None] / size * np.eye(size)
    lively = np.einsum("gkk->gk", damped) > 0
    h = damped.astype(np.float32)
    low, high = limits(start, bits)
    integers = start.copy()
    slope = error @ h
    curves = np.where(lively, np.einsum("gkk->gk", h), 1.0)[:, None] * step[..., None]

    def moves(k: int | slice) -> Array:
        wanted = np.round(-slope[..., k] / curves[..., k]) * lively[:, None, k]
        delta: Array = np.minimum(np.maximum(integers[..., k] + wanted, low[..., k]), high[..., k])
        delta -= integers[..., k]
        return delta

    for _ in range(SWEEPS):
        # Those that stay where they are, as most do after the first sweep, are not visited.
        restless = np.flatnonzero(moves(slice(None)).any(axis=(0, 1)))
        if not restless.size:
            break
        for k in restless.tolist():
            delta = moves(k)
            rows = np.flatnonzero(delta.any(axis=0))
            integers[:, rows, k] += delta[:, rows]
            slope[:, rows] += (delta[:, rows] * step[:, rows])[..., None] * h[:, None, k]
    offsets = (integers - start).astype(np.int8).reshape(moved.shape)
    return np.ascontiguousarray(np.moveaxis(offsets, 0, axis))


@dataclass(frozen=True)
class Reach:
    """What one output of a convolution reads: its kernel, and how that is laid over the input."""

    kernel: tuple[int, int]
    groups: int = 1
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)


def reach(graph: Graph, node: NodeProto) -> Reach | None:
    """Return what an output of the weighted node reads; None where it is padded automatically."""
    given, shape = attributes(node), graph.constants[node.input[1]].shape
    if node.op_type != "Conv":
        return Reach((1, 1))
    if len(shape) != 4 or given.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return None
    ones = (1, 1)
    return Reach(
        (shape[2], shape[3]),
        int(given.get("group", 1)),
        tuple(given.get("strides", ones)),
        tuple(given.get("pads", (0, 0, 0, 0))),
        tuple(given.get("dilations", ones)),
    )


def covariance(batches: Sequence[Array], reach: Reach) -> NDArray[np.float64]:
    """Return the covariance of what one output reads, groups x K x K, from a sample of the positions.

    `batches` are the layer's inputs: N x C x H x W for a convolution, N x ... x C for a product.
    """
    channels = batches[0].shape[1 if batches[0].ndim == 4 else -1]
    size = channels // reach.groups * math.prod(reach.kernel)
    total, sums, count = np.zeros((reach.groups, size, size)), np.zeros((reach.groups, size)), 0
    share = max(SAMPLE // (len(batches) * reach.groups * size), 1)
    for index, batch in enumerate(batches):
        picked = _columns(batch, reach, share, index)
        total += np.matmul(picked.transpose(0, 2, 1), picked)
        sums += picked.sum(axis=1, dtype=np.float64)
        count += picked.shape[1]
    mean = sums / count
    covariance: NDArray[np.float64] = total / count - mean[:, :, None] * mean[:, None, :]
    return covariance


def _columns(batch: Array, reach: Reach, share: int, index: int) -> Array:
    """Return what some `share` outputs read, groups x positions x K: other ones for another `index`."""
    if batch.ndim != 4:
        return np.ascontiguousarray(batch.reshape(1, -1, batch.shape[-1])[:, :share])
    (top, left, bottom, right), (down, across) = reach.pads, reach.dilations
    padded = np.pad(batch, ((0, 0), (0, 0), (top, bottom), (left, right)))
    window = tuple((k - 1) * d + 1 for k, d in zip(reach.kernel, reach.dilations, strict=True))
    views = np.lib.stride_tricks.sliding_window_view(padded, window, axis=(2, 3))
    views = views[:, :, :: reach.strides[0], :: reach.strides[1], ::down, ::across]
    n, channels, height, width = views.shape[:4]
    every = max(1, math.ceil(math.sqrt(n * height * width / share)))
    views = views[:, :, index % min(every, height) :: every, index % min(every, width) :: every]
    groups = reach.groups
    split = views.reshape(n, groups, channels // groups, *views.shape[2:])
    moved = split.transpose(1, 0, 3, 4, 2, 5, 6)
    return np.ascontiguousarray(moved).reshape(groups, -1, channels // groups * math.prod(reach.kernel))
