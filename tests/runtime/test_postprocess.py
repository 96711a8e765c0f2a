from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tledge.errors import InputError
from tledge.runtime.postprocess import LARGEST_CLASSES, top

finite = st.floats(-(2.0**127), 2.0**127, width=32)
shapes = st.tuples(st.integers(1, 3), st.integers(1, 12) | st.integers(250, 260))
wild = hnp.arrays(np.float32, shapes, elements=finite)
usual = hnp.arrays(np.float32, shapes, elements=st.floats(-60, 60, width=32))
few_values = hnp.arrays(np.float32, shapes, elements=st.sampled_from([-1.5, -0.0, 0.0, 2.0]))
halves = hnp.arrays(np.float16, shapes, elements=st.floats(-65504, 65504, width=16))


def softmax(x: np.ndarray) -> np.ndarray:
    wide = x.astype(np.float64)
    terms = np.exp(wide - wide.max(axis=1, keepdims=True))
    return terms / terms.sum(axis=1, keepdims=True)


@given(wild | usual | halves)
def test_probabilities_are_those_of_softmax(x):
    exact = softmax(x)
    for row, ranking in zip(exact, top(x, x.shape[1]), strict=True):
        probabilities = [p for _, p in ranking]
        assert np.abs(row[[i for i, _ in ranking]] - probabilities).max() < 2e-7
        assert probabilities == sorted(probabilities, reverse=True)


@given(wild | usual | few_values | halves, st.integers(1, 300))
def test_the_best_are_the_largest_and_ties_keep_the_order_of_classes(x, k):
    for row, ranking in zip(x, top(x, k), strict=True):
        ranked = sorted(range(len(row)), key=lambda i: (-row[i], i))
        assert [index for index, _ in ranking] == ranked[:k]


@given(usual)
def test_an_image_does_not_see_its_neighbours_nor_k(x):
    together = top(x, 3)
    assert together == [top(row[np.newaxis], 3)[0] for row in x]
    assert together == [ranking[:3] for ranking in top(x, 1000)]


@given(usual, st.floats(0.0625, 20, width=32))
def test_a_temperature_divides_the_logits(x, temperature):
    assert top(x, 5, temperature) == top(x / np.float32(temperature), 5)
    if temperature > 1:
        certain, softened = top(x, 1), top(x, 1, temperature)
        assert all(b[0][1] <= a[0][1] + 1e-6 for a, b in zip(certain, softened, strict=True))


@given(st.integers(-(2**12), 2**12))
def test_a_common_offset_changes_nothing(offset):
    x = np.array([[0.5, -3.25, 2.0, 2.0, 1.75]], np.float32)  # sums with the offset are exact
    assert top(x + np.float32(offset), 5) == top(x, 5)


def test_one_class_is_certain():
    assert top(np.array([[-3.0], [7.0]], np.float32), 5) == [[(0, 1.0)], [(0, 1.0)]]


def test_no_float16_is_read_otherwise():
    values = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    values = values[np.isfinite(values)].reshape(-1, 32)
    assert top(values, 32) == top(values.astype(np.float32), 32)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("classes", [5, 300])
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 3])
def test_logits_that_are_not_numbers_are_an_error(dtype, classes, bad, place):
    x = np.zeros((2, classes), dtype)
    x[1, place] = bad
    with pytest.raises(InputError, match="not finite"):
        top(x, 5)


def test_an_infinity_below_is_a_class_that_cannot_be():
    x = np.array([[-np.inf, 1.0, -np.inf, 1.0]], np.float32)
    assert top(x, 4) == [[(1, 0.5), (3, 0.5), (0, 0.0), (2, 0.0)]]
    with pytest.raises(InputError, match="not finite"):
        top(np.full((1, 4), -np.inf, np.float32), 1)


def test_more_classes_than_the_sum_holds_are_refused():
    assert len(top(np.zeros((1, LARGEST_CLASSES), np.float32), 2)[0]) == 2
    with pytest.raises(InputError, match="524289 logits"):
        top(np.zeros((1, LARGEST_CLASSES + 1), np.float32), 2)
