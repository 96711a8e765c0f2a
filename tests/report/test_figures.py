"""The figures behind the page: confusion, classes, reliability."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tledge.bundle.text import EMPTY, LONGEST, clean
from tledge.evaluation.classes import class_scores, matrix
from tledge.report.confusion import Pair, pairs
from tledge.report.evidence import Answers
from tledge.report.reliability import BINS, reliability
from tledge.report.text import value

TRUTH = np.array([0, 0, 0, 0, 1, 1, 2], np.intp)
BEST = np.array([0, 0, 1, 1, 1, 0, 1], np.intp)


def test_confusion_has_the_truth_in_rows() -> None:
    counts = matrix(TRUTH, BEST, 4)
    assert counts.tolist() == [[2, 2, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert pairs(counts, 2) == (Pair(0, 1, 2, 4), Pair(1, 0, 1, 2))
    assert len(pairs(counts, 10)) == 3


def test_a_class_that_never_came_has_no_score() -> None:
    last = class_scores(matrix(TRUTH, BEST, 4))[3]
    assert (last.images, last.answered, last.recall, last.precision, last.f1) == (0, 0, None, None, None)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_class_scores_are_those_of_scikit_learn(answered: list[tuple[int, int]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    truth, best = np.array(answered, np.intp).T
    expected = metrics.precision_recall_fscore_support(truth, best, labels=range(5), zero_division=0)
    found = class_scores(matrix(truth, best, 5))
    for row, name in zip(expected, ("precision", "recall", "f1", "images"), strict=True):
        scale = 1 if name == "images" else 100
        assert [getattr(one, name) or 0 for one in found] == pytest.approx((row * scale).tolist())


def test_reliability_of_known_answers() -> None:
    # Four answers at 0.75, three of them right: as often as it says. Four at 0.95, two right: 45 points off.
    sure = np.array([0.75] * 4 + [0.95] * 4)
    answers = Answers("x", np.log(np.stack([sure, 1 - sure], axis=1)).astype(np.float32))
    found = reliability(answers, np.array([0, 0, 0, 1, 0, 0, 1, 1], np.intp))
    assert found.error == pytest.approx(22.5, abs=1e-4)
    assert found.overconfidence == pytest.approx(22.5, abs=1e-4)
    assert [one.count for one in found.bins if one.count] == [4, 4]


@given(st.integers(1, 80), st.integers(2, 6), st.integers(0, 1 << 30), st.floats(0.01, 1000))
def test_every_answer_is_in_one_bin(n: int, classes: int, seed: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    answers = Answers("x", (random.normal(0, scale, (n, classes))).astype(np.float32))
    found = reliability(answers, random.integers(0, classes, n).astype(np.intp))
    assert len(found.bins) == BINS
    assert sum(one.count for one in found.bins) == n
    assert abs(found.overconfidence) - 1e-9 <= found.error <= 100
    assert all(one.low <= (one.confidence or one.low) <= one.high + 1e-12 for one in found.bins)


@given(st.text(st.characters(exclude_categories=())))
def test_cleaned_text_is_short_visible_and_keeps_its_direction(text: str) -> None:
    cleaned = clean(text)
    assert 0 < len(cleaned) <= LONGEST
    assert cleaned.isprintable() or all(c.isprintable() or c.isspace() or ord(c) > 0x7F for c in cleaned)
    assert not set(cleaned) & set(
        "\0\n\r\t\x1b\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029"
    )
    cleaned.encode()


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (None, "none"),
        (True, "yes"),
        (0.1 + 0.2, "0.3"),
        ([], "none"),
        ([1, "a"], "1, a"),
        ({"a": None}, "a none"),
        ("", EMPTY),
    ],
)
def test_settings_are_short(item: object, text: str) -> None:
    assert value(item) == text
