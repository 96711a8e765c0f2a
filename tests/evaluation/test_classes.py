"""Scores in which each class counts alike, against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tledge.errors import InputError
from tledge.evaluation.classes import balanced


def test_a_rare_class_counts_as_much_as_a_common_one() -> None:
    logits = np.eye(3, dtype=np.float32)[[0] * 9 + [0]]  # the one image of class 1 is taken for class 0
    found = balanced(logits, [0] * 9 + [1])
    assert found.accuracy == pytest.approx(50)
    assert found.macro_f1 == pytest.approx((100 * 18 / 19 + 0) / 2)
    assert found.as_dict(("a", "b", "c"))["recall"] == {"a": 100.0, "b": 0.0, "c": None}
    assert "least recall: b 0.0 of 1, a 100.0 of 9" in found.text(("a", "b", "c"))


@given(st.integers(2, 6), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_both_are_scikit_learns(classes: int, n: int, seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(seed)
    logits = random.normal(size=(n, classes)).astype(np.float32)
    labels = random.integers(0, classes, n)
    best = logits.argmax(axis=1)
    found = balanced(logits, labels)
    recall = metrics.recall_score(labels, best, labels=np.unique(labels), average="macro", zero_division=0)
    assert found.accuracy == pytest.approx(100 * recall)
    assert found.macro_f1 == pytest.approx(
        100 * metrics.f1_score(labels, best, average="macro", zero_division=0)
    )


def test_no_images_have_no_scores() -> None:
    with pytest.raises(InputError):
        balanced(np.zeros((0, 3), np.float32), [])
