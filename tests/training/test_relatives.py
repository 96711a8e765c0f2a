"""Pretrained classes that know ours already stand in for them where that is clearly better."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from tledge.errors import MachineError
from tledge.models import create
from tledge.models.create import classifier
from tledge.training import average, probe, relatives
from tledge.training.choosing import top1
from tledge.training.probe import Probe
from tledge.training.settings import FinetuneSettings
from tledge.training.start import far, perfect


@pytest.fixture
def scene() -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray, np.ndarray]:
    """Return a head of ten classes, and features of images of its classes 3 and 7 in much noise."""
    random = np.random.default_rng(0)
    weight = random.normal(size=(10, 200)).astype(np.float32)
    labels = random.integers(0, 2, 600)
    features = random.normal(size=(600, 200)) + 0.15 * weight[[3, 7]][labels] + 5
    bias = -5 * weight.sum(axis=1)
    return (weight, bias.astype(np.float32)), features.astype(np.float32), labels


def test_relatives_are_found_and_better_than_few_images(scene) -> None:
    head, features, labels = scene
    found = relatives.find(head, features[:60], labels[:60])
    assert found is not None
    assert set(found.classes) <= set(range(10))
    held = features[300:], labels[300:]
    plain = probe.fit([features[:60]], labels[:60], [features[60:300]], labels[60:300], 2)
    wide = probe.fit(
        [found.widen(features[:60])], labels[:60], [found.widen(features[60:300])], labels[60:300], 2
    )
    assert relatives.better(wide, plain)
    assert not relatives.better(plain, wide)
    folded = found.folded(wide)
    assert folded.weight.shape == plain.weight.shape
    expected = wide.logits(found.widen(held[0]))
    assert np.allclose(folded.logits(held[0]), expected, atol=2e-3 * np.abs(expected).max())
    assert top1(folded.logits(held[0]), held[1]) > top1(plain.logits(held[0]), held[1])


def test_strangers_have_no_relatives(scene) -> None:
    head, features, labels = scene
    assert relatives.find(None, features, labels) is None
    shuffled = np.random.default_rng(1).permutation(labels)
    assert relatives.find(head, features, shuffled) is None
    unsure = Probe(np.zeros((2, 3), np.float32), np.zeros(2, np.float32), 1.0, None)
    assert not relatives.better(unsure, dataclasses.replace(unsure, loss=1.0))


def test_the_pretrained_classifier_is_read() -> None:
    tiny, _ = create("tledge:cnn", 3, image_size=16)
    assert classifier("tledge:cnn", tiny) is None
    network, _ = create("efficientnet-lite0", 3, weights="none")
    try:
        found = classifier("efficientnet-lite0", network)
    except MachineError as error:
        pytest.skip(error.message)
    assert found is not None
    assert (found[0].shape, found[1].shape) == ((1000, 1280), (1000,))


def test_no_epoch_is_run_where_none_could_be_seen_to_do_better() -> None:
    labels = np.array([0, 1, 2])
    right = np.eye(3, dtype=np.float32)
    asked = FinetuneSettings()
    assert perfect(right, labels, asked)
    assert not perfect(right[[1, 1, 2]], labels, asked)
    for name, value in (("epochs", 4), ("method", "probe"), ("head", "mlp:8")):
        assert not perfect(right, labels, dataclasses.replace(asked, **{name: value}))


@pytest.mark.parametrize(("known", "share"), [(False, 1.0), (True, 0.0)])
def test_what_the_pretraining_knew_is_left_only_for_a_reason(
    monkeypatch: pytest.MonkeyPatch, known: bool, share: float
) -> None:
    network, _ = create("tledge:cnn", 2, image_size=16)
    before = {name: tensor + 1 for name, tensor in network.state_dict().items()}
    alike = np.array([[2, 0], [0, 2]], np.float32)
    monkeypatch.setattr(average.features, "over", lambda *_, **__: (alike,))
    material = SimpleNamespace(tune_on=(0, 1), tune_labels=np.array([0, 1]))
    assert average.best_mixture(network, before, material, np.ones(2), known=known) == share


def test_images_far_from_the_pretraining_are_told_by_the_probe() -> None:
    recipe = SimpleNamespace(batch_norm="frozen")
    asked = FinetuneSettings()
    assert far(recipe, asked, False, 59.0)
    assert not far(recipe, asked, False, 92.0)
    assert not far(recipe, asked, False, float("nan"))
    assert not far(recipe, asked, True, 59.0)
    for name, value in (("lr", 1e-3), ("optimizer", "sgd"), ("head", "mlp:8")):
        assert not far(recipe, dataclasses.replace(asked, **{name: value}), False, 59.0)
