from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tledge.errors import InputError
from tledge.runtime import postprocess
from tledge.runtime.postprocess import FEW, top

finite = st.floats(-(2.0**127), 2.0**127, width=32)
logits = st.one_of(
    hnp.arrays(np.float32, st.integers(1, 12), elements=finite),
    hnp.arrays(np.float32, st.integers(FEW - 1, FEW + 2), elements=finite),
)


@given(logits)
def test_probabilities_are_a_distribution_whatever_the_logits(x):
    probabilities = [p for _, p in top(x, len(x))]
    assert sum(probabilities) == pytest.approx(1.0, abs=1e-12)
    assert probabilities == sorted(probabilities, reverse=True)


@given(logits, st.integers(1, 200))
def test_the_best_are_the_largest_and_ties_keep_the_order_of_classes(x, k):
    ranked = sorted(range(len(x)), key=lambda i: (-x[i], i))
    assert [index for index, _ in top(x, k)] == ranked[:k]


@given(hnp.arrays(np.float64, 7, elements=st.floats(-30, 30)), st.integers(-1000, 1000))
def test_softmax_is_the_textbooks_and_does_not_see_a_common_offset(x, offset):
    exact = np.exp(x) / np.exp(x).sum()
    for index, probability in top(x, 7):
        assert probability == pytest.approx(exact[index], rel=1e-9)
    for (_, a), (_, b) in zip(top(x, 7), top(x + offset, 7), strict=True):
        assert a == pytest.approx(b, rel=1e-9)


@given(hnp.arrays(np.float32, 50, elements=finite))
def test_lists_and_arrays_give_the_same_answer(x):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postprocess, "FEW", 10)
        by_array = top(x, 50)
    assert [i for i, _ in by_array] == [i for i, _ in top(x, 50)]
    np.testing.assert_allclose([p for _, p in by_array], [p for _, p in top(x, 50)], rtol=1e-12)


@pytest.mark.parametrize("classes", [5, FEW + 1])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 3])
def test_logits_that_are_not_numbers_are_an_error(classes, bad, place):
    x = np.zeros(classes, np.float32)
    x[place] = bad
    with pytest.raises(InputError, match="not finite"):
        top(x, 5)
    masked = np.zeros(classes, np.float32)
    masked[place] = -np.inf
    assert place not in [index for index, _ in top(masked, classes - 1)]
