"""Histograms that widen: the same end whatever the order, and nothing moved to a neighbouring bin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tledge.errors import InputError
from tledge.quantization.observers import BINS, Observer

VALUES = hnp.arrays(
    np.float32,
    st.integers(1, 300),
    elements=st.one_of(
        # No subnormals: divided by the width of a bin they vanish, and count as zero.
        st.floats(-1e6, 1e6, width=32, allow_subnormal=False),
        st.floats(-1, 1, width=32, allow_subnormal=False),
        st.sampled_from([0.0, 1.0, -1.0, 2.0, 0.5, 1e-30, -1e-30, 1024.0, -2048.0]),
    ),
)


def seen(*batches: np.ndarray) -> Observer:
    observer = Observer("x")
    for batch in batches:
        observer.observe(batch)
    return observer


def brute(values: np.ndarray, exponent: int) -> np.ndarray:
    """The histogram by definition, in exact arithmetic."""
    index = np.floor(np.ldexp(values.astype(np.float64), -exponent)).astype(int) + BINS
    return np.bincount(index, minlength=2 * BINS)


@given(VALUES)
@settings(deadline=None, max_examples=60)
def test_counts_are_those_of_the_definition(values: np.ndarray) -> None:
    observer = seen(values)
    np.testing.assert_array_equal(observer.counts, brute(values, observer.exponent))
    assert (observer.minimum, observer.maximum) == (values.min(), values.max())
    assert observer.count == values.size
    assert observer.total == pytest.approx(values.astype(np.float64).sum(), rel=1e-5, abs=1e-3)


@given(VALUES, VALUES, VALUES)
@settings(deadline=None, max_examples=60)
def test_order_and_batches_do_not_matter(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    one = seen(np.concatenate([a, b, c]))
    for batches in ((a, b, c), (c, a, b), (b, np.concatenate([c, a]))):
        other = seen(*batches)
        np.testing.assert_array_equal(one.counts, other.counts)
        assert (one.exponent, one.minimum, one.maximum) == (other.exponent, other.minimum, other.maximum)


@given(VALUES, VALUES)
@settings(deadline=None, max_examples=60)
def test_merging_is_observing_both(a: np.ndarray, b: np.ndarray) -> None:
    one, both = seen(a), seen(a, b)
    one.merge(seen(b))
    np.testing.assert_array_equal(one.counts, both.counts)
    assert (one.exponent, one.count, one.minimum) == (both.exponent, both.count, both.minimum)


def test_the_histogram_is_fine_enough_for_8_bits() -> None:
    observer = seen(np.linspace(0, 6, 10_000, dtype=np.float32))
    assert observer.width <= 6 / 127 / 8


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_values_that_are_not_finite_name_the_tensor(value: float, word: str) -> None:
    with pytest.raises(InputError, match=word) as caught:
        seen(np.array([1.0, value], np.float32))
    assert "'x'" in caught.value.message


def test_an_empty_batch_changes_nothing() -> None:
    assert seen(np.zeros((0, 3), np.float32)).count == 0
