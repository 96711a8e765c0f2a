"""Maps of what a network looked at: by a network whose eyes are known, and in the bundle."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.conftest import QUICK
from tledge.bundle import Bundle
from tledge.data import find
from tledge.errors import BundleError
from tledge.evaluation import attention as kept
from tledge.models import Network, create
from tledge.training import attention, finetune


def corner_network() -> Network:
    """Return a network whose classes are the red and the green of the image, as means of one convolution."""
    body = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    head = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        body[0].weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1, 0]])[..., None, None])
        head.weight.copy_(torch.eye(2))
    return Network(body, head, {"size": [8, 8], "backbone": "known"}).eval()


def test_the_map_is_bright_where_the_answer_is() -> None:
    network = corner_network()
    image = torch.zeros(1, 3, 8, 8)
    image[0, 0, :3, :3] = 1  # red in the corner at the top left
    image[0, 1, 5:, 5:] = 0.5  # green in the other
    named = attention.last_map(network)
    assert named is not None
    assert named[0] == "body.1"
    red = attention.grad_cam(network, named[1], image, 0)
    green = attention.grad_cam(network, named[1], image, 1)
    assert np.array_equal(red == 255, image[0, 0].numpy() == 1)
    assert np.array_equal(green == 255, image[0, 1].numpy() == 0.5)
    assert not attention.grad_cam(network, named[1], torch.zeros(1, 3, 8, 8), 0).any()


def test_frozen_weights_have_maps_too() -> None:
    network = corner_network()
    network.requires_grad_(False)
    image = torch.zeros(1, 3, 8, 8)
    image[0, 0, 2, 5] = 1
    found = attention.grad_cam(network, network.body[1], image, 0)
    assert np.argwhere(found).tolist() == [[2, 5]]


def test_networks_without_positions_have_no_map() -> None:
    assert attention.last_map(create("tledge:mlp", 4)[0]) is None


@pytest.fixture(scope="module")
def bundle(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    settings = dataclasses.replace(QUICK, epochs=1)  # enough to be wrong
    return finetune(find(digits), tmp_path_factory.mktemp("attention") / "a.tledge", settings)


def test_the_surest_errors_are_in_the_bundle(bundle: Bundle) -> None:
    found = kept.read(bundle)
    assert found is not None
    wrong = round(bundle.ledger[0].n * (1 - bundle.ledger[0].top1 / 100))
    assert len(found.errors) == min(wrong, attention.MOST) > 0
    sure = [one.probability for one in found.errors]
    assert sure == sorted(sure, reverse=True)
    images = {image.file: image for image in bundle.eval_images()}
    assert all(images[one.file].label == one.label != one.answer for one in found.errors)
    assert found.maps is not None
    assert found.maps.shape == (len(found.errors), 4, 4)  # 16 pixels, halved twice
    assert found.maps.max() == 255


def test_a_damaged_document_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    copy = tmp_path / "b.tledge"
    shutil.copytree(bundle.path, copy)
    with Bundle.open(copy).writing() as writer:
        writer.put(kept.NAME, b'{"schema": 2}')
        writer.commit("test")
    with pytest.raises(BundleError, match="schema 2"):
        kept.read(Bundle.open(copy))
