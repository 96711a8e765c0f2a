"""Corrections: what rounding the weights shifts and shrinks comes back."""

from __future__ import annotations

import numpy as np

from tests.quantization import networks
from tledge.quantization import bias
from tledge.quantization.build import answers
from tledge.quantization.graph import Graph, load, session
from tledge.quantization.placement import place
from tledge.quantization.qdq import Correction, along, weights


def apply(model, layers, corrections: dict[str, Correction]):
    """The network with rounded weights, corrected."""
    from onnx import numpy_helper

    rounded = bias.rounded(model, layers)
    for layer in layers:
        learned = corrections[layer.node].offsets
        if learned is not None:
            held = next(t for t in rounded.graph.initializer if t.name == f"{layer.node}.weight.rounded")
            step = weights(Graph(model).constants[layer.weight], layer.axis)[1]
            moved = numpy_helper.to_array(held) + learned * along(step, layer.axis, learned.ndim)
            held.CopyFrom(numpy_helper.from_array(moved.astype(np.float32), held.name))
    graph = Graph(rounded)
    for node in graph.nodes:
        if node.name in corrections:
            mended = corrections[node.name]
            weight = graph.constants[node.input[1]]
            shaped = mended.gain.reshape(-1, *[1] * (weight.ndim - 1))
            for name, values in (("w", weight * shaped), ("b", mended.bias)):
                rounded.graph.initializer.append(numpy_helper.from_array(values, f"{node.name}.{name}"))
            node.input[1], node.input[2] = f"{node.name}.w", f"{node.name}.b"
    return rounded


def coarse(values, axis, *args, **kwargs):
    """4-bit weights, whose errors are large enough to be seen in a tiny network."""
    moved = np.moveaxis(np.asarray(values, np.float64), axis, 0)
    scales = np.abs(moved.reshape(len(moved), -1)).max(axis=1) / 7
    integers = np.round(moved / scales.reshape(-1, *[1] * (moved.ndim - 1)))
    return np.moveaxis(integers, 0, axis).astype(np.int8), scales.astype(np.float32)


def test_means_come_back_and_errors_fall(monkeypatch) -> None:
    monkeypatch.setattr(bias, "weights", coarse)
    model = load(networks.mobile().SerializeToString())
    layers = place(Graph(model), "int8-cpu").layers
    fitting, fresh = networks.images(32, 1), networks.images(64, 2)
    mended = apply(model, layers, bias.correct(model, layers, fitting, threads=1))
    plain = bias.rounded(model, layers)
    right = answers(session(model), fitting)
    shift = np.abs(answers(session(mended), fitting).mean(axis=0) - right.mean(axis=0)).max()
    assert shift < 1e-4
    right = answers(session(model), fresh)
    errors = [np.sqrt(((answers(session(one), fresh) - right) ** 2).mean()) for one in (plain, mended)]
    assert errors[1] < 0.7 * errors[0]


def test_a_network_that_lost_nothing_is_left_alone() -> None:
    right = [np.random.default_rng(0).standard_normal((4, 3, 5, 5)).astype(np.float32)]
    gain, shift = bias.fit(right, right)
    np.testing.assert_allclose(gain, 1, atol=1e-5)
    np.testing.assert_allclose(shift, 0, atol=1e-5)


def test_the_line_is_found_and_dead_channels_are_left() -> None:
    ours = np.random.default_rng(0).standard_normal((8, 3, 5, 5)).astype(np.float32)
    ours[:, 2] = 0.25
    right = ours * np.float32(1.1) + np.float32(0.5)
    gain, shift = bias.fit([right[:4], right[4:]], [ours[:4], ours[4:]])
    np.testing.assert_allclose(gain, [1.1, 1.1, 1.0], rtol=1e-4)
    np.testing.assert_allclose(shift, [0.5, 0.5, 0.525], rtol=1e-3)
