"""A network is made as sure as it is right, whatever was done to its logits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tledge.evaluation.temperature import fit, match, rejection


def honest(count: int, classes: int = 10, seed: int = 0):
    """Return logits whose softmax is the probability that each class is the label, and such labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (count, classes)).astype(np.float32)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(classes, p=row / row.sum()) for row in p.astype(np.float64)])
    return logits, labels


@pytest.mark.parametrize("swing", [0.6, 1.0, 2.5])
def test_the_temperature_undoes_a_swing_of_the_logits(swing):
    logits, labels = honest(4000)
    assert fit(logits * swing, labels) == pytest.approx(swing, rel=0.08)


def test_few_images_that_are_all_right_do_not_ask_for_certainty():
    logits, _ = honest(24)
    assert 0.5 <= fit(logits, logits.argmax(axis=1)) < 1.0
    assert fit(logits[:0], []) == 1.0


@given(swing=st.floats(0.3, 4), own=st.floats(0.5, 3))
def test_a_variant_is_as_sure_as_the_network_that_it_was_made_from(swing, own):
    logits, _ = honest(40)
    assert match(logits * swing, logits, own) == pytest.approx(own * swing, rel=1e-3)


def test_rejecting_the_unsure_leaves_fewer_answers_and_better_ones():
    logits, labels = honest(4000)
    levels = [rejection(logits, labels, 1.0, level) for level in (0.0, 0.5, 0.9)]
    assert levels[0].coverage == 100.0
    assert [one.coverage for one in levels] == sorted((one.coverage for one in levels), reverse=True)
    assert levels[0].accuracy < levels[1].accuracy < levels[2].accuracy
    assert levels[2].accuracy > 90  # honest: answers that are 90 % sure are right that often
    assert rejection(logits * 0, labels, 1.0, 0.5).as_dict() == {
        "below": 0.5,
        "coverage": 0.0,
        "accuracy": None,
    }
