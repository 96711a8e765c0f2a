"""A paired comparison: right by hand, as published, and with bounds that hold their level."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tledge.errors import InputError
from tledge.evaluation.paired import Z_ONE_SIDED, compare, log_softmax, mean_kl, statistic, tango
from tledge.evaluation.scores import Z95

COUNTS = st.integers(1, 3000).flatmap(
    lambda n: st.integers(0, n).flatmap(lambda b: st.tuples(st.just(b), st.integers(0, n - b), st.just(n)))
)


def answers(*classes: int) -> np.ndarray:
    return np.eye(4, dtype=np.float32)[list(classes)] * 3


def test_by_hand() -> None:
    labels = [0, 1, 2, 3, 0, 0]
    found = compare(answers(0, 1, 2, 0, 1, 2), answers(0, 0, 2, 3, 1, 3), labels)
    assert found.n == 6
    assert found.flips == (1, 3, 5)
    assert found.agreement == 50
    assert (found.lost, found.gained) == (1, 1)
    assert found.drop == 0
    assert found.drop_low < 0 < found.drop_high
    assert found.kl > 0


def test_the_same_answers() -> None:
    logits = answers(0, 1, 2, 3)
    found = compare(logits, logits, [0, 1, 2, 0])
    assert (found.agreement, found.flips, found.kl, found.drop) == (100, (), 0, 0)


def test_tango_as_published() -> None:
    """Airway hyper-responsiveness before and after transplantation: 1 and 7 discordant of 21 pairs.

    M. W. Fagerland, S. Lydersen, P. Laake, Statistics in Medicine 33, 2014: -0.517 to -0.026 at 95 %.
    """
    assert tango(1, 7, 21, Z95) == pytest.approx((-0.517, -0.026), abs=5e-4)


@given(st.integers(1, 10**6))
def test_without_discordant_pairs_the_bounds_are_known(n: int) -> None:
    edge = Z_ONE_SIDED**2 / (n + Z_ONE_SIDED**2)
    assert tango(0, 0, n) == pytest.approx((-edge, edge), rel=1e-9)


@given(COUNTS)
def test_bounds_enclose_the_drop_and_mirror(counts: tuple[int, int, int]) -> None:
    lost, gained, n = counts
    low, high = tango(lost, gained, n)
    assert -1 <= low <= (lost - gained) / n <= high <= 1
    other = tango(gained, lost, n)
    assert (-other[1], -other[0]) == (low, high)
    wider = tango(lost, gained, n, Z95)
    assert wider[0] <= low
    assert high <= wider[1]


@given(COUNTS, st.integers(1, 5))
def test_a_loss_more_never_lowers_the_bound(counts: tuple[int, int, int], more: int) -> None:
    lost, gained, n = counts
    if lost + gained + more <= n:
        assert tango(lost, gained, n)[0] <= tango(lost + more, gained, n)[0] + 1e-12


@given(COUNTS, st.floats(-0.999, 0.999), st.floats(-0.999, 0.999))
def test_the_statistic_falls_with_the_difference(
    counts: tuple[int, int, int], one: float, two: float
) -> None:
    small, large = sorted((one, two))
    assert statistic(*counts, delta=small) >= statistic(*counts, delta=large) - 1e-7


def level(n: int, lost: float, gained: float) -> float:
    """Return the exact probability that the lower bound is below the true drop, over all outcomes."""
    total = 0.0
    for b in range(n + 1):
        for c in range(n + 1 - b):
            ways = math.lgamma(n + 1) - math.lgamma(b + 1) - math.lgamma(c + 1) - math.lgamma(n - b - c + 1)
            chance = (
                ways + b * math.log(lost) + c * math.log(gained) + (n - b - c) * math.log(1 - lost - gained)
            )
            if chance > -25 and tango(b, c, n)[0] <= lost - gained + 1e-12:
                total += math.exp(chance)
    return total


@pytest.mark.parametrize(
    ("n", "lost", "gained"),
    [(40, 0.01, 0.01), (40, 0.03, 0.01), (40, 0.1, 0.05), (40, 0.3, 0.05), (25, 0.2, 0.1), (15, 0.05, 0.02)],
)
def test_the_lower_bound_holds_its_level(n: int, lost: float, gained: float) -> None:
    # A score bound is of 95 % on average, not at each point: within 2.5 points of it, or on the safe side.
    assert level(n, lost, gained) >= 0.925


def test_two_answers_of_360_do_not_fail_a_build() -> None:
    logits = np.tile(answers(0), (360, 1))
    child = logits.copy()
    child[:2] = answers(1, 1)
    found = compare(logits, child, [0] * 360)
    assert found.drop == pytest.approx(0.556, abs=1e-3)
    assert found.drop_low < 0.5


def test_eight_answers_of_360_do() -> None:
    logits = np.tile(answers(0), (360, 1))
    child = logits.copy()
    child[:8] = answers(*[1] * 8)
    assert compare(logits, child, [0] * 360).drop_low > 0.5


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 1e30))
def test_kl_is_finite_and_not_negative(seed: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    p, q = (random.normal(0, scale, (5, 6)).astype(np.float32) for _ in range(2))
    assert 0 <= mean_kl(p, q) < math.inf
    assert mean_kl(p, p) == 0
    assert mean_kl(p + np.float32(1000), p.astype(np.float64) + 1000) == pytest.approx(0, abs=1e-3)


def test_kl_by_hand() -> None:
    p, q = np.log([[0.5, 0.5]]), np.log([[0.9, 0.1]])
    expected = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert mean_kl(p, q) == pytest.approx(expected)


def test_log_softmax_of_extremes() -> None:
    found = log_softmax(np.array([[3e38, -3e38, 0]], np.float32))
    np.testing.assert_array_equal(found[0] == 0, [True, False, False])


def test_what_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="cannot be compared"):
        compare(answers(0, 1), answers(0), [0, 1])
    with pytest.raises(InputError, match="not finite"):
        compare(answers(0), np.full((1, 4), np.nan), [0])
    with pytest.raises(ValueError, match="lost"):
        tango(3, 3, 5)
