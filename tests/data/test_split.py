"""Splits depend on names and seed alone, and starve no class."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tledge.data import Dataset, Sample
from tledge.data.split import at_most, parts, stratified, tune, with_val
from tledge.errors import InputError

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=6)


def samples(sizes: list[int]) -> list[Sample]:
    return [
        Sample(f"{label}/{index}", label, Path("x"))
        for label, size in enumerate(sizes)
        for index in range(size)
    ]


def count(found: tuple[Sample, ...], classes: int) -> list[int]:
    by_label = Counter(sample.label for sample in found)
    return [by_label[label] for label in range(classes)]


@given(SIZES, st.floats(0.01, 0.99), st.integers(0, 9), st.randoms(use_true_random=False))
def test_a_split_is_stratified_and_knows_no_order(
    sizes: list[int], fraction: float, seed: int, random: object
) -> None:
    members = samples(sizes)
    kept, part = stratified(members, fraction, seed)
    assert sorted(kept + part, key=members.index) == members
    assert list(kept) == sorted(kept, key=members.index)
    for size, of_part in zip(sizes, count(part, len(sizes)), strict=True):
        assert of_part == (min(max(1, round(fraction * size)), size - 1) if size > 1 else 0)
    shuffled = list(members)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert set(stratified(shuffled, fraction, seed)[1]) == set(part)


@given(SIZES, st.integers(0, 9))
def test_tune_takes_little(sizes: list[int], seed: int) -> None:
    train, part = tune(samples(sizes), seed)
    assert len(train) + len(part) == sum(sizes)
    for size, of_part in zip(sizes, count(part, len(sizes)), strict=True):
        assert of_part == (0 if size < 3 else min(max(1, round(0.1 * size)), size // 3))


@given(SIZES, st.integers(0, 250), st.integers(0, 9))
def test_at_most_is_exact_and_in_proportion(sizes: list[int], most: int, seed: int) -> None:
    members = samples(sizes)
    found = at_most(members, most, seed)
    assert len(found) == min(most, len(members))
    assert list(found) == sorted(found, key=members.index)
    if most >= len(sizes):
        shares = count(found, len(sizes))
        assert min(shares) >= 1
        for size, share in zip(sizes, shares, strict=True):
            assert abs(share - most * size / sum(sizes)) <= 2 or share == size


def test_seeds_and_purposes_draw_apart() -> None:
    members = samples([100, 100])
    assert stratified(members, 0.1, 0)[1] != stratified(members, 0.1, 1)[1]
    assert stratified(members, 0.1, 0)[1] != tune(members, 0)[1]


def test_the_draw_never_changes() -> None:
    """A bundle's split must come out the same with every version of tledge."""
    found = stratified(samples([8, 8]), 0.25, 7)[1]
    assert [sample.name for sample in found] == ["0/4", "0/6", "1/3", "1/4"]


def test_another_image_moves_no_other_but_one() -> None:
    before = {sample.name for sample in stratified(samples([50, 50]), 0.2, 3)[1]}
    after = {sample.name for sample in stratified(samples([50, 51]), 0.2, 3)[1]}
    assert len(before ^ after) <= 2


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_a_fraction_is_between_nothing_and_all(fraction: float) -> None:
    for draw in (stratified, tune):
        with pytest.raises(InputError, match="fraction"):
            draw(samples([5]), fraction=fraction, seed=0)  # type: ignore[operator]


def dataset(**splits: list[int]) -> Dataset:
    made = {
        split: tuple(Sample(f"{split}/{s.name}", s.label, s.path) for s in samples(sizes))
        for split, sizes in splits.items()
    }
    return Dataset(Path("data"), ("a", "b"), made)


def test_val_is_drawn_only_where_nothing_scores() -> None:
    flat = with_val(dataset(train=[10, 20]), seed=0)
    assert flat.counts("val") == [2, 4]
    assert flat.counts("train") == [8, 16]
    for ready in (dataset(train=[10, 10], val=[3, 3]), dataset(train=[10, 10], test=[3, 3])):
        assert with_val(ready, seed=0) is ready


def test_what_trains_what_chooses_what_scores() -> None:
    found = parts(dataset(train=[10, 20], val=[5, 5]), seed=0)
    assert [len(found.train), len(found.tune), len(found.scoring), found.scoring_name] == [27, 3, 10, "val"]
    found = parts(dataset(train=[10, 20], val=[5, 5], test=[4, 4]), seed=0)
    assert [len(found.train), len(found.tune), len(found.scoring), found.scoring_name] == [30, 10, 8, "test"]
    with pytest.raises(InputError, match="no val or test"):
        parts(dataset(train=[10, 20]), seed=0)
    with pytest.raises(InputError, match="no train"):
        parts(dataset(val=[10, 20]), seed=0)
