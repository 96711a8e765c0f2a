"""Correction of each channel's mean and gain: what rounding the weights shifted and shrank is put back.

The rounding error of a layer's weights is one fixed linear map. What of it is a shift of a channel's mean
goes into the bias, what of it is a change of the channel's gain into the scale of its weights; neither costs
any time when the network runs. Bias correction is that of M. Nagel et al., "Data-free quantization through
weight equalization and bias correction" (arXiv 1906.04721), in its empirical and sequential form: layer by
layer, each seeing inputs that the corrections before it have mended. The gain is fitted with it: the straight
line through the float network's values over the rounded network's, by least squares.

Activations stay float meanwhile. Their errors are no shift: they depend on the value (what is rounded to
zero, what is clipped), and a bias that makes up for their mean is wrong wherever they do not occur. On
EfficientNet-Lite0 correcting them too made the mean KL four times larger (docs/int8.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tledge.progress import Progress
from tledge.quantization import rounding
from tledge.quantization.graph import Graph, copy
from tledge.quantization.placement import Layer
from tledge.quantization.qdq import Correction, along, weights
from tledge.quantization.walk import Batches, Walk

if TYPE_CHECKING:
    from onnx import ModelProto

# A channel whose fitted gain is outside was hardly alive in these images: it keeps its weights.
LEAST_GAIN, LARGEST_GAIN = 0.8, 1.25


def correct(
    model: ModelProto,
    layers: Sequence[Layer],
    images: NDArray[np.float32],
    *,
    learn: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Correction]:
    """Return the correction of each layer, by node name.

    Args:
        model: The float network, simplified.
        layers: The layers whose weights are rounded, in graph order.
        images: Input tensors, N x ...; some tens are enough, as each has many positions.
        learn: Also learn which way each weight is rounded (see `tledge.quantization.rounding`).
        threads: Threads of one inference; None: all cores.
        progress: Where to show how far it is.
    """
    progress = progress or Progress.silent()
    graph = Graph(model)
    corrections: dict[str, Correction] = {}
    exact, walk = Walk(model, images, threads), Walk(rounded(model, layers), images, threads)
    title = "rounding" if learn else "correcting"
    with progress.task(title, total=len(layers), unit="layers") as task:
        for layer in layers:
            offsets = _learn(walk, graph, layer) if learn else None
            right, ours = exact.until(layer.node), walk.until(layer.node)
            gain, shift = fit(right, ours)
            shape = (1, -1, 1, 1) if ours[0].ndim == 4 else (-1,)
            for batch in ours:
                np.multiply(batch, gain.reshape(shape), out=batch)
                np.add(batch, shift.reshape(shape), out=batch)
            del right, ours, batch  # the walks alone hold them now, and let go of each when it is read
            old = graph.constants[layer.bias] if layer.bias else np.float32(0)
            corrections[layer.node] = Correction(gain, (old * gain + shift).astype(np.float32), offsets)
            task.advance()
    return corrections


def rounded(model: ModelProto, layers: Sequence[Layer]) -> ModelProto:
    """Return the float network with the layers' weights as INT8 will have them."""
    from onnx import numpy_helper

    fresh = copy(model)
    graph = Graph(fresh)
    for layer in layers:
        name = _rounded_name(layer)
        fresh.graph.initializer.append(numpy_helper.from_array(real_weights(graph, layer), name))
        next(node for node in fresh.graph.node if node.name == layer.node).input[1] = name
    return fresh


def _rounded_name(layer: Layer) -> str:
    return f"{layer.node}.weight.rounded"


def real_weights(
    graph: Graph,
    layer: Layer,
    offsets: NDArray[np.int8] | None = None,
    gain: NDArray[np.float32] | float = 1.0,
) -> NDArray[np.float32]:
    """Return the layer's weights as INT8 has them, in float."""
    integers, scales = weights(
        graph.constants[layer.weight], layer.axis, gain=gain, offsets=offsets, bits=layer.bits
    )
    return (integers * along(scales, layer.axis, integers.ndim)).astype(np.float32)


def _learn(walk: Walk, graph: Graph, layer: Layer) -> NDArray[np.int8] | None:
    """Round the layer's weights in `walk` for the inputs that it has there, and return by how many steps."""
    from onnx import numpy_helper

    reach = rounding.reach(graph, next(node for node in graph.nodes if node.name == layer.node))
    if reach is None:
        return None
    seen = rounding.covariance(walk.before(layer.node, layer.input), reach)
    offsets = rounding.learn(graph.constants[layer.weight], seen, layer.axis, layer.bits)
    held = next(t for t in walk.model.graph.initializer if t.name == _rounded_name(layer))
    held.CopyFrom(numpy_helper.from_array(real_weights(graph, layer, offsets), held.name))
    return offsets


def fit(right: Batches, ours: Batches) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return for each channel the gain and shift of the line that best takes `ours` to `right`."""
    sums = np.zeros((5, 1))
    count = 0
    for r, o in zip(right, ours, strict=True):
        a, b = _by_channel(r), _by_channel(o)
        count += a.shape[0] * a.shape[2]
        moments = [a.sum(axis=2), b.sum(axis=2)]
        moments += [np.einsum("ncp,ncp->nc", x, y) for x, y in ((a, a), (b, b), (a, b))]
        sums = sums + np.array(moments, np.float64).sum(axis=1)
    mean_r, mean_o, square_r, square_o, product = sums / count
    variance, covariance = square_o - mean_o**2, product - mean_r * mean_o
    lively = (variance > 1e-6 * square_o) & (square_r > 0)
    gain = np.where(lively, covariance / np.where(lively, variance, 1.0), 1.0)
    gain = np.where((gain < LEAST_GAIN) | (gain > LARGEST_GAIN), 1.0, gain)
    return gain.astype(np.float32), (mean_r - gain * mean_o).astype(np.float32)


def _by_channel(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the values as N x C x rest: axis 1 of N x C x H x W, the last axis of other tensors."""
    moved = values if values.ndim == 4 else np.moveaxis(values, -1, 1)
    return moved.reshape(*moved.shape[:2], -1)
