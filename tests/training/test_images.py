"""The training images: their small copies are what Pillow would make, whatever their shape."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.images import photo
from tledge.bundle import TrainFile
from tledge.errors import InputError
from tledge.preprocess import Box, Crop, Decode, Spec
from tledge.training.images import Images

SPEC = Spec(geometry=Crop(36, (32, 32)))


def images(folder: Path, picture: Image.Image, spec: Spec = SPEC, suffix: str = ".png") -> Images:
    path = folder / f"a{suffix}"
    picture.save(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Images([TrainFile(path=path.name, label=0, sha256=digest, part="train")], folder, spec)


@pytest.mark.parametrize("size", [(90, 60), (60, 90), (41, 40), (200, 41)])
def test_a_small_copy_is_pillows(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = photo(*size)
    made = images(tmp_path, Image.fromarray(pixels))
    assert np.array_equal(made.whole(0), pixels)
    wide, tall = (round(side * 40 / min(size)) for side in size)
    # One axis a call, in this order on every Pillow.
    once = Image.fromarray(pixels).resize((wide, size[1]), Image.Resampling.BILINEAR)
    expected = np.asarray(once.resize((wide, tall), Image.Resampling.BILINEAR))
    assert np.array_equal(made.small(0), expected)
    assert made.small(0) is made.small(0)


@pytest.mark.parametrize("size", [(40, 40), (30, 900), (41, 17000)])
def test_what_is_small_or_very_narrow_is_kept_as_it_is(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    assert np.array_equal(images(tmp_path, Image.fromarray(pixels)).small(0), pixels)


def test_a_fast_decode_is_the_specifications(tmp_path: Path) -> None:
    spec = Spec(Box((32, 32)), Decode(jpeg="fast"))
    made = images(tmp_path, Image.fromarray(photo(300, 200)), spec, ".jpg")
    assert made.whole(0).shape == (100, 150, 3)


def test_a_file_that_changed_is_named(tmp_path: Path) -> None:
    made = images(tmp_path, Image.fromarray(photo()))
    (tmp_path / "a.png").write_bytes(b"other")
    with pytest.raises(InputError, match="changed since this run began"):
        made.whole(0)
