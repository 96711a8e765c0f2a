"""Wrong labels are found among real digits, few right ones with them, and the list is the bundle's."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import QUICK
from tledge.cli import cli
from tledge.cli.failure import guarded
from tledge.data import find
from tledge.training import finetune, suspects


def digits_with_wrong_labels(share: float) -> tuple[np.ndarray, np.ndarray, set[int]]:
    data = pytest.importorskip("sklearn.datasets").load_digits()
    labels = data.target.astype(np.int64)
    rng = np.random.default_rng(0)
    wrong = rng.permutation(len(labels))[: round(share * len(labels))]
    labels[wrong] = (labels[wrong] + rng.integers(1, 10, len(wrong))) % 10
    return (data.data / 16).astype(np.float32), labels, set(wrong.tolist())


def test_one_in_twenty_wrong_labels_are_found() -> None:
    features, labels, wrong = digits_with_wrong_labels(0.05)
    found = suspects.find(features, labels, 10, 0.01)
    named = {one.index for one in found}
    hits = len(named & wrong)
    assert hits / len(named) > 0.95  # precision
    assert hits / len(wrong) > 0.8  # recall
    margins = [one.given - one.probability for one in found]
    assert margins == sorted(margins)
    assert all(one.suggested != labels[one.index] for one in found)


def test_right_labels_are_left_alone() -> None:
    features, labels, _ = digits_with_wrong_labels(0)
    assert len(suspects.find(features, labels, 10, 0.01)) <= 0.005 * len(labels)


def test_a_probe_never_saw_the_image_that_it_judges() -> None:
    # Random features and labels: only an image that was fitted could be known.
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 300)).astype(np.float32)
    labels = np.repeat(np.arange(4), 50)
    probabilities = suspects.held_out(features, labels, 4, 10.0)
    assert (probabilities.argmax(axis=1) == labels).mean() < 0.4
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(200))


def test_small_classes_are_neither_judged_nor_suggested() -> None:
    features, labels, _ = digits_with_wrong_labels(0.05)
    keep = np.flatnonzero((labels != 3) | (np.cumsum(labels == 3) <= 4))
    found = suspects.find(features[keep], labels[keep], 10, 0.01)
    assert found
    assert all(3 not in (one.suggested, labels[keep][one.index]) for one in found)
    assert suspects.find(features[:3], np.array([0, 1, 1]), 2, 0.01) == []


def test_the_list_is_in_the_bundle_and_inspect_shows_it(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = finetune(find(digits), tmp_path / "a.tledge", QUICK)
    assert not source.has("suspects.json")  # its features had learnt nothing
    assert guarded(cli, ["inspect", str(source.path), "--suspects"]) == 6
    spoilt = tmp_path / "spoilt"
    shutil.copytree(digits, spoilt)
    moved = []
    for label in ("0", "1", "2"):
        file = sorted((spoilt / "train" / label).iterdir())[5]
        target = spoilt / "train" / "3" / f"was-{label}-{file.name}"
        shutil.move(file, target)
        moved.append(f"train/3/{target.name}")
    settings = dataclasses.replace(
        QUICK, from_bundle=str(source.path), backbone="efficientnet-lite0", method="probe", image_size=None
    )
    bundle = finetune(find(spoilt), tmp_path / "b.tledge", settings)
    found = bundle.suspects()
    assert found
    assert {one.path for one in found} <= set(moved)
    assert "suspects" not in bundle.settings["finetune"]["chosen"]
    capsys.readouterr()
    assert guarded(cli, ["inspect", str(bundle.path), "--suspects", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {one["label"] for one in document["suspects"]} == {"3"}
    assert document["suspects"][0].keys() == {"file", "label", "given", "suggested", "probability"}
    assert guarded(cli, ["inspect", str(bundle.path), "--suspects"]) == 0
    assert found[0].path in capsys.readouterr().out
