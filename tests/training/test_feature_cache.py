"""Features are read again only where everything that they hang on is the same, and have the same bits."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.conftest import QUICK
from tledge.data import find
from tledge.models import Network, create
from tledge.preprocess import preprocessor
from tledge.progress import Progress
from tledge.training import contents, feature_cache, features, finetune
from tledge.training.device import Device
from tledge.training.images import Images
from tledge.training.material import Material

Case = tuple[Network, Material, list[int]]


@pytest.fixture
def case(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    torch.manual_seed(0)
    network, spec = create("tledge:cnn", 4, image_size=16)
    found = contents.examine(find(digits), QUICK, Progress.silent())
    files = found.train_files()
    images = Images(files, found.dataset.root, spec)
    prepare = preprocessor(spec, "host")
    material = Material(images, (), (), prepare, Device("cpu", False), Progress.silent(), 1)
    return network, material, list(range(12))


def computed(case: Case, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Tell whether features had to be computed."""
    calls: list[int] = []
    real = features.over

    def counting(*given, **more):  # type: ignore[no-untyped-def]
        calls.append(1)
        return real(*given, **more)

    monkeypatch.setattr(features, "over", counting)
    feature_cache.over(*case, keep=True)
    monkeypatch.setattr(features, "over", real)
    return bool(calls)


def test_features_are_computed_once(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = feature_cache.over(*case, keep=False)
    assert not feature_cache.folder().exists()
    assert computed(case, monkeypatch)
    assert not computed(case, monkeypatch)
    for ours, theirs in zip(feature_cache.over(*case, keep=True), fresh, strict=True):
        assert np.array_equal(ours, theirs)


def another_weight(case: Case) -> Case:
    with torch.no_grad():
        next(case[0].body.parameters()).view(-1)[0] += 1e-6
    return case


def another_statistic(case: Case) -> Case:
    next(case[0].body.buffers())[0] += 1e-6
    return case


def another_image(case: Case) -> Case:
    return case[0], case[1], [*case[2][:-1], 20]


def another_order(case: Case) -> Case:
    return case[0], case[1], case[2][::-1]


def another_spec(case: Case) -> Case:
    spec = dataclasses.replace(case[1].prepare.spec, mean=(0.4, 0.5, 0.5))
    return case[0], dataclasses.replace(case[1], prepare=preprocessor(spec, "host")), case[2]


def another_precision(case: Case) -> Case:
    return case[0], dataclasses.replace(case[1], device=Device("cpu", True)), case[2]


@pytest.mark.parametrize(
    "change",
    [another_weight, another_statistic, another_image, another_order, another_spec, another_precision],
)
def test_what_has_changed_is_computed_anew(
    case: Case, change: Callable[[Case], Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert computed(case, monkeypatch)
    assert computed(change(case), monkeypatch)


def test_an_image_of_another_content_is_computed_anew(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    network, material, indices = case
    before = feature_cache.key(*case)
    files = list(material.images.files)
    files[3] = dataclasses.replace(files[3], sha256="0" * 64)
    material.images.files = tuple(files)
    assert feature_cache.key(network, material, indices) != before


@pytest.mark.parametrize("position", [0, 40, -1])
def test_a_damaged_file_counts_as_missing(case: Case, position: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert computed(case, monkeypatch)
    (file,) = feature_cache.folder().iterdir()
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)
    assert computed(case, monkeypatch)
    file.write_bytes(b"")
    assert computed(case, monkeypatch)
    assert not computed(case, monkeypatch)


def test_what_was_not_used_for_longest_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    views = [np.zeros((10, 10), np.float32)] * 2
    monkeypatch.setattr(feature_cache, "MOST_BYTES", 2500)
    for age, name in ((30, "a"), (20, "b"), (10, "c")):
        path = tmp_path / f"{name}.features"
        feature_cache.write(path, views)
        os.utime(path, (1e9 - age, 1e9 - age))
    assert {file.stem for file in tmp_path.iterdir()} == {"b", "c"}
    assert feature_cache.read(tmp_path / "b.features") is not None
    feature_cache.write(tmp_path / "d.features", views)
    assert {file.stem for file in tmp_path.iterdir()} == {"b", "d"}


def test_a_place_that_cannot_be_written_does_not_stop_a_run(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert computed(case, monkeypatch)


def test_a_run_with_kept_features_is_the_run_without(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    settings = dataclasses.replace(QUICK, epochs=1)
    shas = []
    for number, cache in enumerate((False, True, True)):
        out = tmp_path / f"{number}.tledge"
        bundle = finetune(find(digits), out, dataclasses.replace(settings, cache=cache))
        shas.append(bundle.sha256("model.safetensors"))
    assert len(set(shas)) == 1
    assert len(list(feature_cache.folder().iterdir())) == 1
