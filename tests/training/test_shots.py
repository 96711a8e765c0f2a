"""A handful of images a class: the draws, the choice of the head, and the interval that is told."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import QUICK
from tledge.bundle import Bundle
from tledge.cli import cli
from tledge.cli.failure import guarded
from tledge.data import find
from tledge.errors import UsageError
from tledge.training import FinetuneSettings, finetune, shots


def test_a_draw_takes_as_many_of_each_class() -> None:
    labels = np.array([0] * 10 + [1] * 3 + [2] * 20)
    taken = shots.draw(labels, 5, 0, 0)
    assert np.bincount(labels[taken]).tolist() == [5, 3, 5]
    assert len(set(taken.tolist())) == len(taken)
    assert taken.tolist() == shots.draw(labels, 5, 0, 0).tolist()
    assert taken.tolist() != shots.draw(labels, 5, 1, 0).tolist()


def test_prototypes_answer_with_the_nearest_mean() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 7)).astype(np.float32) + np.repeat(rng.normal(size=(3, 7)), 20, axis=0)
    labels = np.repeat(np.arange(3), 20)
    asked = rng.normal(size=(200, 7)).astype(np.float32)
    means = np.stack([rows[labels == label].mean(axis=0) for label in range(3)])
    nearest = np.linalg.norm(asked[:, None] - means[None], axis=2).argmin(axis=1)
    found = shots.prototypes(rows.astype(np.float32), labels, 3)
    assert (found.logits(asked).argmax(axis=1) == nearest).all()


def test_one_image_a_class_gives_prototypes_and_no_temperature() -> None:
    rng = np.random.default_rng(0)
    found = shots.choose(rng.normal(size=(4, 9)).astype(np.float32), np.arange(4), 4)
    assert (found.kind, found.temperature) == ("prototypes", None)


def test_the_head_is_chosen_by_images_that_it_has_not_seen() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 8)
    # Round clouds: the means are all there is to know.
    centres = 2 * rng.normal(size=(3, 20))
    round_ones = (centres[labels] + rng.normal(size=(24, 20))).astype(np.float32)
    assert shots.choose(round_ones, labels, 3).kind == "prototypes"
    # One feature tells the classes, another is loud: the means drown, and a probe learns which counts.
    loud = rng.normal(size=(24, 2)) * (0.05, 30)
    loud[:, 0] += labels
    assert shots.choose(np.asarray(loud, np.float32), labels, 3).kind == "probe"


def test_the_interval_is_of_the_mean_of_the_draws() -> None:
    scores = [50.0, 60.0] * 10
    told = shots.summary(scores, ["probe"] * 19 + ["prototypes"])
    half = 2.093 * np.std(scores, ddof=1) / np.sqrt(20)
    assert told["mean"] == 55
    assert (told["low"], told["high"]) == pytest.approx((55 - half, 55 + half))
    assert (told["worst"], told["best"], told["prototypes"]) == (50, 60, 1)


@pytest.fixture(scope="module")
def source(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return finetune(find(digits), tmp_path_factory.mktemp("shots") / "a.tledge", QUICK)


def test_a_bundle_of_a_few_images_says_what_to_expect(
    source: Bundle, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "b.tledge"
    words = ["finetune", digits, "-o", out, "--from", source.path, "--shots", 5, "--device", "cpu", "--json"]
    assert guarded(cli, [str(word) for word in words]) == 0
    document = json.loads(capsys.readouterr().out)
    told = document["shots"]
    assert told["draws"] == len(told["top1"]) == 20
    bundle = Bundle.open(out)
    files = bundle.train_files()
    assert (len(files), {file.part for file in files}) == (20, {"train"})
    assert bundle.settings["finetune"]["method"] == "probe"
    assert bundle.settings["finetune"]["chosen"]["shots"] == told
    # The bundle is the first draw: its ledger says the same.
    assert bundle.ledger[0].top1 == pytest.approx(told["top1"][0], abs=1e-3)
    assert told["low"] < told["mean"] < told["high"]


def test_all_images_are_one_draw(source: Bundle, digits: Path, tmp_path: Path) -> None:
    settings = FinetuneSettings(from_bundle=str(source.path), shots=1000, device="cpu")
    told = finetune(find(digits), tmp_path / "b.tledge", settings).settings["finetune"]["chosen"]["shots"]
    assert told["draws"] == 1
    assert told["low"] == told["mean"] == told["high"]


def test_what_makes_no_sense_with_a_few_images_is_refused() -> None:
    for name, value in (("shots", 0), ("head", "mlp:4"), ("train_images", 9)):
        with pytest.raises(UsageError):
            dataclasses.replace(FinetuneSettings(shots=5), **{name: value})
