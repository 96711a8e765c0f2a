"""Frames of one thing and copies of one photo are found, and stand on one side of the split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.data.images import encode
from tledge.data import Dataset, Sample, find
from tledge.data.audit import audit
from tledge.data.groups import stem
from tledge.data.split import parts, tune

GROUPED = st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=12), min_size=1, max_size=4)


def grouped(sizes: list[list[int]]) -> tuple[list[Sample], dict[str, str]]:
    """Return samples of classes of groups of these sizes, and the group of each that is not alone."""
    members, together = [], {}
    for label, groups in enumerate(sizes):
        for group, size in enumerate(groups):
            for frame in range(size):
                members.append(Sample(f"{label}/{group}_{frame}.png", label, Path("x")))
                if size > 1:
                    together[members[-1].name] = f"{label}/{group}_0.png"
    return members, together


@given(GROUPED, st.integers(0, 9), st.randoms(use_true_random=False))
def test_groups_stay_on_one_side(sizes: list[list[int]], seed: int, random: object) -> None:
    members, together = grouped(sizes)
    train, part = tune(members, seed, together=together)
    assert sorted(train + part, key=members.index) == members
    trained_on = {together[one.name] for one in train if one.name in together}
    assert not trained_on & {together[one.name] for one in part if one.name in together}
    for label, groups in enumerate(sizes):
        total, taken = sum(groups), sum(one.label == label for one in part)
        assert 3 * taken <= total
        assert taken > 0 or total < 3 or 3 * min(groups) > total
    shuffled = list(members)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert set(tune(shuffled, seed, together=together)[1]) == set(part)


@given(GROUPED, st.integers(0, 9))
def test_without_groups_nothing_changes(sizes: list[list[int]], seed: int) -> None:
    members, _ = grouped(sizes)
    assert tune(members, seed, together={}) == tune(members, seed)
    other = {"of": "elsewhere"}  # groups of other images are none of these classes'
    assert tune(members, seed, together=other) == tune(members, seed)


def test_names_are_cut_before_their_last_number() -> None:
    def cut(name: str) -> str | None:
        return stem(Sample(name, 0, Path("x")))

    assert cut("train/3/00012_00005.png") == "train/3/00012"
    assert cut("walk-2/cam 1 - 7.jpg") == "walk-2/cam 1"
    assert [cut(name) for name in ("a/12.png", "a/b_n.jpg", "a_1/x.png", "a/_7.png", "a/x_5")] == [None] * 5
    assert stem(Sample("a/x_5.png", 0, Path("x"), index=5)) is None


def write(root: Path, frames_agree: bool, things: int = 6, frames: int = 4) -> Path:
    """Make two classes of images named THING_FRAME; frames are one scene in other light, or another scene."""
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in "ab":
            (root / split / label).mkdir(parents=True)
            for thing in range(things):
                scene = random.integers(0, 256, (4, 4, 3))
                for frame in range(frames):
                    if not frames_agree:
                        scene = random.integers(0, 256, (4, 4, 3))
                    pixels = np.kron(scene, np.ones((7, 7, 1))) + random.normal(0, 40, (28, 28, 3))
                    name = f"{thing:03d}_{frame:03d}.png"
                    (root / split / label / name).write_bytes(encode(pixels.clip(0, 255).astype(np.uint8)))
    return root


def test_names_count_only_where_the_images_agree(tmp_path: Path) -> None:
    found = audit(find(write(tmp_path / "frames", frames_agree=True)))
    assert len(found.together) == 48
    assert len(set(found.together.values())) == 12
    assert found.together["train/a/003_002.png"] == "train/a/003_000.png"
    assert found.as_dict()["groups"] == {"images": 48, "groups": 12}
    assert audit(find(write(tmp_path / "numbers", frames_agree=False))).together == {}


def test_near_twins_belong_together(tmp_path: Path) -> None:
    root = write(tmp_path, frames_agree=False)
    large = np.kron(np.random.default_rng(1).integers(0, 256, (4, 4, 3)), np.ones((10, 10, 1)))
    for name, light in (("x.png", 1.0), ("y.png", 0.8), ("z.png", 0.9)):
        (root / "train" / "a" / name).write_bytes(encode((large * light).astype(np.uint8)))
    assert audit(find(root)).together == {f"train/a/{name}.png": "train/a/x.png" for name in "xyz"}


def test_groups_that_leave_no_tune_are_left_out() -> None:
    members, together = grouped([[6, 6], [6, 6]])
    data = find_in(members)
    assert not tune(members, 0, together=together)[1]
    assert parts(data, 0, together=together) == parts(data, 0)
    members, together = grouped([[6, 6], [3, 3, 3, 3]])
    found = parts(find_in(members), 0, together=together)
    assert {sample.label for sample in found.tune} == {1}
    assert found.together == together


def find_in(members: list[Sample]) -> Dataset:
    return Dataset(Path("data"), ("a", "b"), {"train": tuple(members), "val": tuple(members[:1])})
