"""A few steps at each rate find the one to train at, and only where there is something to find."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.training.conftest import QUICK
from tledge.data import find
from tledge.preprocess import preprocessor
from tledge.progress import Progress
from tledge.training import contents, trial
from tledge.training.augment import Augmentation
from tledge.training.device import choose
from tledge.training.finetune import network_of
from tledge.training.images import Images
from tledge.training.material import Material
from tledge.training.settings import FinetuneSettings
from tledge.training.state import Recipe

RECIPE = Recipe(
    epochs=8,
    batch_size=16,
    lr=2e-4,
    lowest_rate=0.1,
    warmup=0.1,
    weight_decay=0.02,
    label_smoothing=0.1,
    size=(16, 16),
    augmentation=Augmentation(0.9, False, 0, 0.0),
    batch_norm="frozen",
    patience=4,
    seed=0,
)


@pytest.fixture
def material(digits: Path) -> Material:
    found = contents.examine(find(digits), QUICK, Progress.silent())
    files = found.train_files()
    _, spec = network_of(QUICK, found.dataset.classes)
    train = sum(file.part == "train" for file in files)
    return Material(
        images=Images(files, digits, spec),
        train_on=tuple(range(train)),
        tune_on=tuple(range(train, len(files))),
        prepare=preprocessor(spec, "host"),
        device=choose("cpu"),
        progress=Progress.silent(),
        workers=1,
    )


def test_a_network_with_all_to_learn_gets_a_bolder_rate(material: Material) -> None:
    network, _ = network_of(QUICK, ("0", "1", "2", "3"))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found, figures = trial.run(network, material, RECIPE)
    assert found.lr > RECIPE.lr
    assert found.epochs == RECIPE.epochs
    assert [entry["lr"] for entry in figures] == pytest.approx([2e-4, 2e-3, 6e-4])
    assert trial.run(network, material, RECIPE) == (found, figures)
    assert all(tensor.equal(before[name]) for name, tensor in network.state_dict().items())


def test_the_gentle_rate_stays_unless_it_is_clearly_worse(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, _ = network_of(QUICK, ("0", "1", "2", "3"))

    def lost(*_: object, **__: object) -> float:
        raise trial.UsageError("the loss is not a number any more")

    monkeypatch.setattr(trial, "run_epoch", lost)
    found, figures = trial.run(network, material, RECIPE)
    assert found is RECIPE
    assert [entry["tune_loss"] for entry in figures] == [None] * 3


def test_a_trial_is_made_only_where_it_may_help(material: Material) -> None:
    asked = FinetuneSettings()
    assert trial.wanted(RECIPE, asked, material, 76.0)
    assert not trial.wanted(RECIPE, asked, material, 95.0)
    assert not trial.wanted(dataclasses.replace(RECIPE, epochs=3), asked, material, 76.0)
    assert not trial.wanted(dataclasses.replace(RECIPE, batch_norm="batch"), asked, material, 76.0)
    assert not trial.wanted(RECIPE, asked, dataclasses.replace(material, tune_on=()), 76.0)
    for name, value in (("lr", 1e-3), ("time", 60.0), ("optimizer", "sgd"), ("freeze", "backbone")):
        other = dataclasses.replace(asked, **{name: value})
        assert not trial.wanted(RECIPE, other, material, 76.0)
