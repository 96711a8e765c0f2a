"""Images of another kind are noticed, images of the same kind are not, and the strangest are named."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.runtime import bundles
from tledge.bundle import Bundle
from tledge.errors import InputError
from tledge.evaluation.drift import drift, energy_test


def distances(rows: np.ndarray) -> np.ndarray:
    return np.linalg.norm(rows[:, None] - rows[None], axis=2)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return bundles.make(tmp_path_factory.mktemp("drift") / "b.tledge", eval_images=60)


def folder_of(place: Path, images: dict[str, bytes]) -> Path:
    place.mkdir()
    for name, data in images.items():
        (place / name).write_bytes(data)
    return place


def flat(level: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.full((24, 20, 3), level, np.uint8)
    pixels[:12, :, 0] //= 2
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_images_of_the_same_kind_are_not_told_from_the_eval_images(bundle, tmp_path):
    same = folder_of(tmp_path / "same", {f"{seed}.png": bundles.png(seed) for seed in range(100, 140)})
    found = drift(bundle, same)
    assert (found.images, found.reference, found.drifted) == (40, 60, False)
    assert found.p_value > 0.05
    assert sum(one.field for one in found.answers) == pytest.approx(100)
    assert found == drift(bundle, same)


def test_images_of_another_kind_are_and_the_strangest_comes_first(bundle, tmp_path):
    images = {f"{seed}.png": bundles.png(seed) for seed in range(100, 110)}
    images |= {f"flat{level}.png": flat(20 * level) for level in range(1, 13)}
    found = drift(bundle, folder_of(tmp_path / "other", images), worst=5)
    assert found.drifted
    assert found.distance > found.usual
    assert [one.file.startswith("flat") for one in found.strangers] == [True] * 5
    assert found.strangers[0].beyond == 100.0


def test_what_cannot_be_read_is_named_and_too_few_are_refused(bundle, tmp_path):
    images = {f"{seed}.png": bundles.png(seed) for seed in range(100, 112)} | {"broken.png": b"no image"}
    found = drift(bundle, folder_of(tmp_path / "some", images))
    assert [name for name, _ in found.skipped] == ["broken.png"]
    assert found.images == 12
    with pytest.raises(InputError, match=r"3 images in .* are too few"):
        drift(bundle, folder_of(tmp_path / "few", {f"{i}.png": bundles.png(i) for i in range(3)}))


@settings(max_examples=20, deadline=None)
@given(first=st.integers(8, 30), second=st.integers(8, 30), seed=st.integers(0, 10**6))
def test_the_energy_distance_is_its_definition(first, second, seed):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(first + second, 3))
    between = distances(rows)
    a, b = slice(0, first), slice(first, None)
    wanted = 2 * between[a, b].mean() - between[a, a].mean() - between[b, b].mean()
    found, usual, p_value = energy_test(between, first, rng)
    assert found == pytest.approx(wanted)
    assert usual > 0
    assert 0 < p_value <= 1


def test_a_shift_is_seen_and_none_is_not():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(80, 4))
    assert energy_test(distances(rows), 40, rng)[2] > 0.05
    rows[:40] += 1.0
    assert energy_test(distances(rows), 40, rng)[2] == pytest.approx(0.001)
