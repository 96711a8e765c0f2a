"""Long images are squashed where a probe needs their ends, and cropped where it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tledge.data import find
from tledge.models import create, save
from tledge.preprocess import Box, Crop, Spec
from tledge.training import FinetuneSettings, finetune
from tledge.training.augment import Augmentation, generator, random_crop, view
from tledge.training.geometry import shown


def bars(folder: Path, at: int) -> Path:
    """Write noisy images of 24 x 72 pixels whose class is how bright their third number `at` is."""
    random = np.random.default_rng(0)
    for label, brightness in (("dark", 40), ("light", 200)):
        place = folder / label
        place.mkdir(parents=True)
        for index in range(24):
            pixels = random.integers(80, 160, (24, 72, 3), np.uint8)
            pixels[:, 24 * at : 24 * (at + 1)] = brightness
            Image.fromarray(pixels).save(place / f"{index}.png")
    return folder


@pytest.mark.parametrize(("at", "kind"), [(0, Box), (1, Crop)])
def test_the_whole_is_taken_where_the_middle_does_not_tell(tmp_path: Path, at: int, kind: type) -> None:
    (tmp_path / "w.safetensors").write_bytes(save(create("tledge:cnn", 2, image_size=16)[0]))
    settings = FinetuneSettings(
        backbone="tledge:cnn", weights=str(tmp_path / "w.safetensors"), image_size=16, method="probe"
    )
    bundle = finetune(find(bars(tmp_path / "bars", at)), tmp_path / "b.tledge", settings)
    assert isinstance(bundle.spec.geometry, kind)
    assert bundle.spec.size == (16, 16)
    assert bundle.ledger[0].top1 == 100


def test_a_crop_shows_a_part() -> None:
    spec = Spec(geometry=Crop(resize=256, size=(224, 224)))
    assert shown(spec, 1.0) == pytest.approx(0.765625)
    assert shown(spec, 2.5) == pytest.approx(0.30625)
    assert shown(Spec(geometry=Box((224, 224))), 2.5) == 1


def test_views_of_squashed_images_have_their_shape() -> None:
    shapes = []
    for index in range(50):
        left, top, right, bottom = random_crop((300, 100), 0.9, generator(0, 0, index), 3.0)
        assert 0 <= left < right <= 300 + 1e-9
        assert 0 <= top < bottom <= 100 + 1e-9
        assert (right - left) * (bottom - top) >= 0.74 * 300 * 100
        shapes.append((right - left) / (bottom - top))
    assert 2 < min(shapes) < max(shapes) < 4.5
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, :3] = image[:, -3:] = 255
    whole = view(image, (8, 8), Augmentation(1.0, False, 0, 0.0, squash=True), generator(0, 0, 0))
    assert whole[:, 0].min() > 100 < whole[:, -1].min()
