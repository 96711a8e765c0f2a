"""Learned rounding: outputs come nearer, weights stay within a step or so, and nothing moves for nothing."""

from __future__ import annotations

import numpy as np
import pytest

from tests.quantization import networks
from tledge.quantization import bias, rounding
from tledge.quantization.build import answers
from tledge.quantization.graph import Graph, load, session
from tledge.quantization.placement import place
from tledge.quantization.qdq import along, weights


def correlated(channels: int, count: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    few = random.standard_normal((count, 4)).astype(np.float32)
    return few @ random.standard_normal((4, channels)).astype(np.float32)


def error(values: np.ndarray, offsets: np.ndarray | None, columns: np.ndarray) -> float:
    integers, scales = weights(values, 0, offsets=offsets)
    wrong = (integers * along(scales, 0, 2) - values) @ columns.T
    return float(((wrong - wrong.mean(axis=1, keepdims=True)) ** 2).sum())


def test_inputs_that_go_together_let_errors_cancel() -> None:
    columns = correlated(24, 500, 1)
    values = np.random.default_rng(2).standard_normal((8, 24)).astype(np.float32)
    batch = columns.reshape(5, 10, 10, 24).transpose(0, 3, 1, 2)
    seen = rounding.covariance([batch], rounding.Reach((1, 1)))
    np.testing.assert_allclose(seen[0], np.cov(columns.T, bias=True), rtol=1e-4, atol=1e-4)
    offsets = rounding.learn(values, seen)
    assert error(values, offsets, columns) < 0.1 * error(values, None, columns)
    assert np.abs(offsets).max() <= 8


def test_independent_inputs_leave_the_nearest() -> None:
    values = np.random.default_rng(2).standard_normal((8, 24)).astype(np.float32)
    assert not rounding.learn(values, np.eye(24)[None]).any()
    assert not rounding.learn(values, np.zeros((1, 24, 24))).any()


@pytest.mark.parametrize(
    ("groups", "strides", "pads"), [(1, (1, 1), (1, 1, 1, 1)), (6, (2, 2), (0, 0, 1, 1))]
)
def test_the_covariance_is_that_of_what_the_outputs_read(groups, strides, pads) -> None:
    random = np.random.default_rng(0)
    batch = random.standard_normal((2, 6, 7, 7)).astype(np.float32)
    seen = rounding.covariance([batch], rounding.Reach((3, 3), groups, strides, pads))
    padded = np.pad(batch, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    own = 6 // groups
    for group in range(groups):
        part = padded[:, group * own : (group + 1) * own]
        rows = [
            part[n, :, y : y + 3, x : x + 3].ravel()
            for n in range(2)
            for y in range(0, part.shape[2] - 2, strides[0])
            for x in range(0, part.shape[3] - 2, strides[1])
        ]
        np.testing.assert_allclose(seen[group], np.cov(np.array(rows).T, bias=True), atol=1e-4)


def test_a_network_with_learned_rounding_errs_less() -> None:
    model = load(networks.mobile().SerializeToString())
    layers = place(Graph(model), "int8-cpu").layers
    fitting, fresh = networks.images(64, 1), networks.images(64, 2)
    right = answers(session(model), fresh)
    from tests.quantization.test_bias import apply

    errors = []
    for learn in (False, True):
        corrections = bias.correct(model, layers, fitting, learn=learn, threads=1)
        assert (corrections["node_wide"].offsets is not None) == learn
        errors.append(((answers(session(apply(model, layers, corrections)), fresh) - right) ** 2).mean())
    assert errors[1] < 0.7 * errors[0]
