"""Ranges from histograms against the same on every stored value."""

from __future__ import annotations

import numpy as np
import pytest

from tledge.errors import InputError
from tledge.quantization import ranges
from tledge.quantization.observers import BINS, Observer
from tledge.quantization.ranges import ASYMMETRIC, SYMMETRIC, Scheme

RANDOM = np.random.default_rng(5)
TENSORS = {
    "normal": RANDOM.standard_normal(40_000).astype(np.float32),
    "relu": np.maximum(RANDOM.standard_normal(40_000), 0).astype(np.float32) * 3,
    "relu6": np.clip(RANDOM.standard_normal(40_000) * 4, 0, 6).astype(np.float32),
    "tail": RANDOM.standard_t(2, 40_000).astype(np.float32),
    "negative": -np.abs(RANDOM.standard_normal(40_000)).astype(np.float32) - np.float32(0.5),
    "skewed": (RANDOM.gamma(2.0, 1.0, 40_000) - 1).astype(np.float32),
}
EACH = pytest.mark.parametrize("name", TENSORS)
BOTH = pytest.mark.parametrize("scheme", [SYMMETRIC, ASYMMETRIC], ids=["symmetric", "asymmetric"])


def observed(values: np.ndarray) -> Observer:
    observer = Observer("x")
    observer.observe(values)
    return observer


@EACH
@BOTH
def test_minmax_is_exact(name: str, scheme: Scheme) -> None:
    values = TENSORS[name]
    found = ranges.find(observed(values), "minmax", scheme)
    assert (found.low, found.high) == (min(values.min(), 0), max(values.max(), 0))


@EACH
@pytest.mark.parametrize("share", [99.99, 99.999])
def test_percentile_of_magnitudes_is_within_one_bin(name: str, share: float) -> None:
    values, observer = TENSORS[name], observed(TENSORS[name])
    found = ranges.find(observer, f"percentile-{share}", SYMMETRIC)
    ordered = np.sort(np.abs(values))
    brute = ordered[min(int(np.ceil(share / 100 * values.size)) - 1, values.size - 1)]
    assert found.largest == pytest.approx(brute, abs=observer.width * 1.001)


@EACH
def test_percentile_of_both_tails_is_within_one_bin(name: str) -> None:
    values, observer = TENSORS[name], observed(TENSORS[name])
    found = ranges.find(observer, "percentile-99.99", ASYMMETRIC)
    sides = 2 if values.min() < 0 < values.max() else 1
    outside = 0.0001 * values.size / sides
    ordered = np.sort(values)
    if values.max() > 0:
        top = ordered[int(np.ceil(values.size - outside)) - 1]
        assert found.high == pytest.approx(top, abs=observer.width * 1.001)
    if values.min() < 0:
        bottom = ordered[int(np.floor(outside))]
        assert found.low == pytest.approx(bottom, abs=observer.width * 1.001)


def stored_error(values: np.ndarray, low: float, high: float, steps: int) -> float:
    """The mean squared error of 8 bits over every value itself."""
    step = (high - low) / 255 if steps == 255 else max(-low, high) / 127
    image = np.clip(np.round(values / step), np.round(low / step), np.round(high / step)) * step
    return float(np.mean((values - image) ** 2, dtype=np.float64))


@EACH
def test_mse_is_the_best_threshold_of_all(name: str) -> None:
    values = TENSORS[name].astype(np.float64)
    found = ranges.find(observed(TENSORS[name]), "mse", SYMMETRIC)
    largest = np.abs(values).max()
    best = min(stored_error(values, -t, t, 127) for t in largest * np.arange(20, 101) / 100)
    ours = stored_error(values, -found.largest, found.largest, 127)
    assert ours <= best * 1.02


@EACH
def test_mse_with_a_zero_point_is_no_worse_than_minmax(name: str) -> None:
    values = TENSORS[name].astype(np.float64)
    found = ranges.find(observed(TENSORS[name]), "mse", ASYMMETRIC)
    plain = stored_error(values, min(values.min(), 0), max(values.max(), 0), 255)
    assert stored_error(values, found.low, found.high, 255) <= plain * 1.02


def stored_divergence(values: np.ndarray, threshold: float, width: float, levels: int) -> float:
    """KL(p, q) of Migacz's method from stored values, written as its loops say."""
    bins = np.bincount(np.floor(np.abs(values) / width).astype(int), minlength=BINS).astype(np.float64)
    bins[0] = 0
    size = round(threshold / width)
    p = bins[:size].copy()
    q = np.zeros(size)
    for level in range(levels):
        start, end = level * size // levels, (level + 1) * size // levels
        filled = p[start:end] > 0
        if filled.any():
            q[start:end][filled] = p[start:end].sum() / filled.sum()
    p[-1] += bins[size:].sum()
    p, q = p / p.sum(), q / q.sum()
    both = (p > 0) & (q > 0)
    return float(
        (p[both] * np.log(p[both] / q[both])).sum() + p[(p > 0) & (q == 0)].sum() * np.log(bins.sum())
    )


@pytest.mark.parametrize("name", ["relu", "relu6", "tail", "normal"])
def test_entropy_is_the_least_divergence(name: str) -> None:
    values, observer = TENSORS[name], observed(TENSORS[name])
    threshold = max(*map(abs, ranges.entropy(observer, SYMMETRIC)))
    counts = ranges.magnitudes(observer).astype(np.float64)
    counts[0] = 0
    last = int(np.flatnonzero(counts)[-1]) + 1
    sizes = np.unique(np.linspace(128, last, min(128, last - 127)).round().astype(int))
    brute = {size: stored_divergence(values, size * observer.width, observer.width, 128) for size in sizes}
    best = min(brute, key=lambda size: brute[size])
    assert threshold == pytest.approx(best * observer.width, abs=observer.width * 1.001)


def test_zero_is_always_inside() -> None:
    found = ranges.find(observed(np.array([2.0, 3.0], np.float32)), "minmax", ASYMMETRIC)
    assert (found.low, found.high) == (0.0, 3.0)


@pytest.mark.parametrize("method", ranges.METHODS)
@BOTH
def test_constant_tensors_have_a_range(method: str, scheme: Scheme) -> None:
    for value in (0.0, 3.0, -3.0):
        found = ranges.find(observed(np.full(100, value, np.float32)), method, scheme)
        assert found.low <= value <= found.high


def test_unknown_methods_and_unseen_tensors_are_refused() -> None:
    with pytest.raises(InputError, match="no such way"):
        ranges.find(observed(TENSORS["relu"]), "median", SYMMETRIC)
    with pytest.raises(InputError, match="no value"):
        ranges.find(Observer("x"), "minmax", SYMMETRIC)
