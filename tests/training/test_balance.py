"""Classes that differ in size: the rule, the loss, and choices in which each class counts alike."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import QUICK
from tledge.data import find
from tledge.errors import UsageError
from tledge.evaluation.stage import by_class
from tledge.training import FinetuneSettings, balance, finetune
from tledge.training.choosing import tempered_losses, top1

LABELS = np.array([0] * 60 + [1] * 12 + [2] * 13)


def test_the_adjustment_is_for_classes_five_times_as_large() -> None:
    assert balance.strength(LABELS, 3, None) == 1
    assert balance.strength(LABELS[1:], 3, None) == 0
    assert balance.strength(LABELS, 4, None) == 1  # a class without images
    assert balance.strength(LABELS, 3, 0.25) == 0.25
    with pytest.raises(UsageError, match="logit_adjust"):
        FinetuneSettings(logit_adjust=-1)


def test_shifts_are_logarithms_of_shares() -> None:
    assert np.allclose(np.exp(balance.shifts(LABELS, 3, 1.0)), np.bincount(LABELS) / len(LABELS))
    assert np.array_equal(balance.shifts(LABELS, 3, 0.0), np.zeros(3, np.float32))


def test_weighted_answers_are_the_mean_recall() -> None:
    logits = np.eye(3, dtype=np.float32)[np.zeros(len(LABELS), int)]
    assert top1(logits, LABELS, balance.weights(LABELS, 0.0)) == pytest.approx(100 * 60 / 85)
    weights = balance.weights(LABELS, 1.0)
    assert top1(logits, LABELS, weights) == pytest.approx(100 / 3)
    assert weights.mean() == pytest.approx(1)
    # No network knows anything here: at the highest temperature all are nearly as unsure.
    losses = tempered_losses(logits, LABELS, weights)
    assert sum(losses[LABELS == 1]) == pytest.approx(sum(losses[LABELS == 2]))


def test_a_rare_class_is_found_more_often(digits: Path, tmp_path: Path) -> None:
    rare = tmp_path / "rare"
    shutil.copytree(digits, rare)
    for file in sorted((rare / "train" / "3").iterdir())[4:]:
        file.unlink()
    recalls = []
    for name, asked in (("plain", 0.0), ("adjusted", None)):
        settings = dataclasses.replace(QUICK, logit_adjust=asked)
        bundle = finetune(find(rare), tmp_path / f"{name}.tledge", settings)
        chosen = bundle.settings["finetune"]["chosen"]
        assert chosen["logit_adjust"] == chosen["recipe"]["logit_adjust"] == (asked is None)
        assert {"tune_top1", "tune_balanced"} <= chosen["history"][0].keys()
        found = by_class(bundle, "torch")
        assert found is not None
        recalls.append(found.classes[3].recall)
    assert recalls[1] > recalls[0]
