"""Scores against sums done by hand, and an interval that holds its level."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tledge.errors import InputError
from tledge.evaluation.scores import score, wilson


def test_top1_and_top5_by_hand() -> None:
    logits = np.eye(7, dtype=np.float32)[[0, 1, 2, 3]] + np.arange(7, dtype=np.float32) / 100
    found = score(logits, [0, 1, 6, 0])  # right, right, second, last but the own one is 3: rank 6
    assert found.n == 4
    assert found.top1 == 50
    assert found.top5 == 75


def test_few_classes_have_no_top5_to_miss() -> None:
    assert score(np.array([[1.0, 2.0, 3.0]], np.float32), [0]).top5 == 100


def test_of_equal_logits_the_first_class_is_the_answer() -> None:
    logits = np.zeros((3, 8), np.float32)
    found = score(logits, [0, 1, 5])
    assert found.top1 == pytest.approx(100 / 3)
    assert found.top5 == pytest.approx(200 / 3)


@given(st.integers(2, 9), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_top1_is_argmax(classes: int, n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    logits = random.integers(0, 4, (n, classes)).astype(np.float32)
    labels = random.integers(0, classes, n)
    found = score(logits, labels)
    assert found.top1 == pytest.approx(100 * (logits.argmax(axis=1) == labels).mean())
    best = np.argsort(-logits, axis=1, kind="stable")[:, :5]
    assert found.top5 == pytest.approx(100 * (best == labels[:, None]).any(axis=1).mean())
    assert 0 <= found.top1_low <= found.top1 <= found.top1_high <= 100


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # From Newcombe, Statistics in Medicine 17, 1998, 857-872, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_published(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000), st.data())
def test_wilson_is_an_interval(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    mirrored = wilson(n - successes, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize(
    ("logits", "labels", "words"),
    [
        (np.zeros((0, 3)), [], "do not fit"),
        (np.zeros((2, 3)), [0], "do not fit"),
        (np.zeros(3), [0, 1, 2], "do not fit"),
        (np.zeros((1, 3)), [3], "outside of the 3 classes"),
        (np.zeros((1, 3)), [-1], "outside of the 3 classes"),
        (np.array([[0.0, math.nan], [0, 1], [math.inf, 0]]), [0, 0, 0], "for 2 of 3 images are not finite"),
    ],
)
def test_what_cannot_be_scored(logits: np.ndarray, labels: list[int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        score(logits, labels)
