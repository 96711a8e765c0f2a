from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tledge.runtime.postprocess import best, softmax

logits = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
    elements=st.floats(-(2.0**127), 2.0**127, width=32),
)


@given(logits)
def test_softmax_is_a_distribution_whatever_the_logits(x):
    p = softmax(x)
    assert p.dtype == np.float64
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-12)
    order = best(x, x.shape[1])
    assert (np.diff(np.take_along_axis(p, order, axis=1), axis=1) <= 0).all()


@given(logits, st.integers(-1000, 1000))
def test_softmax_does_not_see_a_common_offset(x, offset):
    small = np.clip(x, -50, 50).astype(np.float64)
    np.testing.assert_allclose(softmax(small), softmax(small + offset), atol=1e-11)


@given(logits, st.integers(1, 20))
def test_best_are_the_largest_and_ties_keep_the_order_of_classes(x, k):
    indices = best(x, k)
    assert indices.shape == (len(x), min(k, x.shape[1]))
    for row, chosen in zip(x, indices, strict=True):
        ranked = sorted(range(len(row)), key=lambda i: (-row[i], i))
        assert chosen.tolist() == ranked[:k]
