"""The parts of a run, each on its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tledge.errors import UsageError
from tledge.models import create
from tledge.training import FinetuneSettings, loop, probe
from tledge.training.augment import OPERATIONS, Augmentation, generator, random_crop, view
from tledge.training.choosing import (
    best_epoch,
    stalled,
    survives,
    tempered_loss,
    tempered_losses,
    top1,
    worse,
)
from tledge.training.rates import depths, groups, schedule
from tledge.training.start import symmetric


@given(
    st.integers(1, 400), st.integers(1, 400), st.floats(0.05, 1.0), st.integers(0, 2**32), st.integers(0, 99)
)
def test_a_crop_lies_in_the_image(width: int, height: int, area: float, seed: int, index: int) -> None:
    left, top, right, bottom = random_crop((width, height), area, generator(seed, 1, index))
    assert -1e-9 <= left < right <= width + 1e-6
    assert -1e-9 <= top < bottom <= height + 1e-6


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 3), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_a_view_depends_on_its_numbers_alone(width: int, height: int, operations: int, index: int) -> None:
    image = np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)
    how = Augmentation(0.3, True, operations, 0.5)
    first, again = (view(image, (24, 20), how, generator(0, 3, index)) for _ in range(2))
    assert first.shape == (24, 20, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)


def test_each_operation_keeps_the_size_and_does_nothing_at_strength_nought() -> None:
    from PIL import Image

    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))
    for operation in OPERATIONS:
        for strength in (-1.0, -0.3, 0.4, 1.0):
            assert operation(picture, strength).size == picture.size
        still = np.asarray(operation(picture, 0.0)).astype(int)
        assert np.abs(still - np.asarray(picture)).max() <= 1


def test_the_temperature_takes_out_how_sure_a_network_is() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 200)
    logits = (rng.normal(size=(200, 4)) + 1.5 * np.eye(4)[labels]).astype(np.float32)
    assert tempered_loss(logits, labels) == pytest.approx(tempered_loss(2 * logits, labels), rel=2e-3)
    assert tempered_loss(np.zeros((200, 4), np.float32), labels) == pytest.approx(np.log(4))
    assert tempered_losses(logits, labels).shape == (200,)
    assert top1(logits, labels) > 50
    assert np.isnan(top1(logits[:0], labels[:0]))


def test_a_change_that_costs_answers_is_found() -> None:
    labels = np.zeros(200, np.int64)
    right, wrong = np.tile([1.0, 0.0], (200, 1)), np.tile([0.0, 1.0], (200, 1))
    some = np.concatenate([wrong[:3], right[3:]])
    many = np.concatenate([wrong[:60], right[60:]])
    assert survives(right, right, labels, 0.02)
    assert survives(right, some, labels, 0.02)
    assert not survives(right, many, labels, 0.02)
    assert survives(many, right, labels, 0.02)


def test_a_later_epoch_is_kept_unless_it_is_clearly_worse() -> None:
    rng = np.random.default_rng(0)
    good = rng.exponential(1, 100)
    noise = [(good + 0.05 * rng.normal(size=100)).tolist() for _ in range(3)]
    bad = (good + 0.5 + 0.05 * rng.normal(size=100)).tolist()
    assert best_epoch([], []) is None
    assert best_epoch([bad, noise[0]], [80, 90]) == 2
    assert best_epoch([noise[0], bad], [90, 80]) == 1
    assert best_epoch([noise[0], bad], [90, 90]) == 2
    assert worse(bad, noise[0]) > 1 > worse(noise[0], noise[0])
    assert stalled([noise[0], bad, bad], [90, 80, 80], patience=2)
    assert not stalled([noise[0], bad], [90, 80], patience=2)
    assert not stalled([bad, noise[0], bad], [80, 90, 80], patience=2)
    assert not stalled([], [], patience=2)


def test_the_probe_finds_what_a_plane_can_separate() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 300)
    features = (rng.normal(size=(300, 16)) + 4 * np.eye(3, 16)[labels] + 7).astype(np.float32)
    found = probe.fit([features[:200]], labels[:200], [features[200:]], labels[200:], 3)
    assert top1(found.logits(features[200:]), labels[200:]) > 95
    assert found.strength in probe.STRENGTHS
    assert found.loss is not None
    unchosen = probe.fit([features], labels, [features[:0]], labels[:0], 3)
    assert (unchosen.strength, unchosen.loss) == (probe.MIDDLING, None)


def test_two_classes_have_two_logits() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 100)
    features = (rng.normal(size=(100, 4)) + 3 * labels[:, None]).astype(np.float32)
    found = probe.fit([features], labels, [features], labels, 2)
    assert found.weight.shape == (2, 4)
    assert np.allclose(found.weight[0], -found.weight[1])


def test_the_first_layers_learn_slowest_and_norms_do_not_decay() -> None:
    network, _ = create("timm:test_efficientnet", 3, weights="none")
    depth = depths(network)
    assert depth["body.conv_stem.weight"] == 0
    assert depth["head.weight"] == 1
    deeper = [depth[f"body.blocks.{index}.0.bn1.weight"] for index in range(3)]
    assert deeper == sorted(deeper)
    found = groups(network, lr=1.0, lowest=0.1, weight_decay=0.5)
    assert min(group["lr"] for group in found) == pytest.approx(0.1)
    assert max(group["lr"] for group in found) == pytest.approx(1.0)
    assert sum(len(group["params"]) for group in found) == len(list(network.parameters()))
    for group in found:
        assert all((p.ndim > 1) == (group["weight_decay"] > 0) for p in group["params"])
    network.body.requires_grad_(False)
    assert sum(len(group["params"]) for group in groups(network, lr=1, lowest=1, weight_decay=0)) == 2


@given(st.integers(1, 500), st.floats(0, 0.5))
def test_the_rate_rises_then_falls(steps: int, warmup: float) -> None:
    factors = [schedule(step, steps, warmup) for step in range(steps)]
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert all(0 < factor <= 1 for factor in factors)


def test_frozen_statistics_stay() -> None:
    network, _ = create("tledge:cnn", 3, image_size=16)
    before = network.body[0][1].running_mean.clone()  # type: ignore[index]
    for kind, same in (("frozen", True), ("batch", False)):
        loop._mode(network, kind)
        network(torch.randn(4, 3, 16, 16) + 3)
        assert torch.equal(network.body[0][1].running_mean, before) is same  # type: ignore[index]


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "finetun"},
        {"epochs": 0},
        {"batch_size": 0},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"workers": 0},
        {"device": "gpu"},
        {"eval_images": -1},
        {"freeze": "head"},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        FinetuneSettings(**wrong)  # type: ignore[arg-type]


def test_what_a_mirror_changes_is_found() -> None:
    rng = np.random.default_rng(0)
    plain = rng.normal(size=(400, 8)).astype(np.float32)
    other = rng.normal(size=(400, 8)).astype(np.float32)
    assert symmetric([plain[:300], other[:300]], [plain[300:], other[300:]])
    other[:, 0] += 2
    assert not symmetric([plain[:300], other[:300]], [plain[300:], other[300:]])


def test_a_class_of_one_image_is_judged_by_no_probe_of_itself() -> None:
    features = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    for labels in ([0, 1], [0, 0, 1]):
        held_out = probe.held_out(features[: len(labels)], np.array(labels), 2)
        assert held_out.shape == (len(labels), 2)
        assert np.isfinite(held_out).all()
