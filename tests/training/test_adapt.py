"""Batch norms fitted to a shifted camera: what they make of it, what it gains, and who is refused."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.training.conftest import QUICK
from tledge.bundle import Bundle
from tledge.cli import cli
from tledge.cli.failure import guarded
from tledge.data import Sample, find, image_files
from tledge.deploy.device import export_device
from tledge.errors import BundleError, InputError, UsageError
from tledge.models import create
from tledge.preprocess import preprocessor
from tledge.progress import Progress
from tledge.training import adapt, finetune
from tledge.training.adapted import Adapted, BothScored, make
from tledge.training.device import Device

CPU = Device("cpu", bf16=False)


@pytest.fixture(scope="module")
def trained(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    settings = dataclasses.replace(QUICK, epochs=12)
    return finetune(find(digits), tmp_path_factory.mktemp("adapt") / "a.tledge", settings)


@pytest.fixture(scope="module")
def shifted(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the digits in folders of classes, as a camera that sees grey for black and little contrast."""
    folder = tmp_path_factory.mktemp("shifted")
    for file in sorted((digits / "val").rglob("*.png")) + sorted((digits / "train").rglob("*5.png")):
        pixels = np.asarray(Image.open(file)).astype(np.float64)
        (folder / file.parent.name).mkdir(exist_ok=True)
        Image.fromarray((150 + pixels / 4).astype(np.uint8)).save(folder / file.parent.name / file.name)
    return folder


def test_the_fields_statistics_take_the_place_of_the_sources_where_those_are_in_force() -> None:
    rng = torch.Generator().manual_seed(0)
    source, field = (
        adapt.Moments(torch.randn(5, generator=rng).double(), torch.rand(5, generator=rng).double() + 0.1)
        for _ in range(2)
    )
    found = adapt.matched(source, source, field, 1e-5)
    assert torch.allclose(found.mean, field.mean)
    assert torch.allclose(found.variance, field.variance)


def test_a_layer_makes_of_the_field_what_it_made_of_the_source() -> None:
    torch.manual_seed(0)
    layer = nn.BatchNorm2d(4).eval()
    layer.running_mean.copy_(torch.randn(4))
    layer.running_var.copy_(torch.rand(4) + 0.5)
    source = torch.randn(64, 4, 5, 5) * 2 + 1
    field = torch.randn(64, 4, 5, 5) * torch.tensor([0.5, 1.0, 2.0, 4.0])[:, None, None] - 3
    before = layer(source)

    def moments(x: torch.Tensor) -> adapt.Moments:
        return adapt.Moments(x.mean((0, 2, 3)).double(), x.var((0, 2, 3), correction=0).double())

    own = adapt.Moments(layer.running_mean.double(), layer.running_var.double())
    wanted = adapt.matched(own, moments(source), moments(field), layer.eps)
    layer.running_mean.copy_(wanted.mean)
    layer.running_var.copy_(wanted.variance)
    after = layer(field)
    assert torch.allclose(moments(after).mean, moments(before).mean, atol=1e-4)
    assert torch.allclose(moments(after).variance, moments(before).variance, rtol=1e-3)


def test_the_source_itself_changes_little(trained: Bundle, digits: Path) -> None:
    from tledge.models import load

    network = load(trained.read("model.safetensors"))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    images = [Sample(file.name, 0, file) for file in image_files(digits / "train")]
    prepare = preprocessor(trained.spec, "host")
    same = adapt.Batches(images, prepare, CPU, Progress.silent(), "", 0)
    assert adapt.match(network, same, same) == len(images)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_mean"):
            spread = before[name.replace("mean", "var")].sqrt()
            assert ((tensor - before[name]).abs() < 0.2 * spread).all(), name
        elif not name.endswith("running_var"):
            assert torch.equal(tensor, before[name]), name


def test_an_adapted_bundle_gains_on_its_camera_and_says_what_it_loses(
    trained: Bundle, shifted: Path, tmp_path: Path
) -> None:
    made = make(trained, shifted, tmp_path / "b.tledge")
    assert made.field is not None
    on_field = made.field.as_dict()
    assert on_field["after"] > on_field["before"] + 10
    assert on_field["gained"] > on_field["lost"]
    bundle = made.bundle
    assert bundle.state == "finished"
    assert bundle.problems() == ()
    assert [row.stage for row in bundle.ledger][:3] == ["source", "torch", "fp32@onnxruntime"]
    source, torch_row, onnx = bundle.ledger[:3]
    assert (source.top1, source.file_sha256) == (trained.ledger[0].top1, trained.sha256("model.safetensors"))
    assert (torch_row.parent, onnx.parent) == ("source", "torch")
    assert made.eval.as_dict()["change"] == pytest.approx(torch_row.top1 - source.top1)
    assert made.advice.startswith("a clear gain on these images")
    assert made.as_dict()["advice"] == made.advice
    assert bundle.eval_images() == trained.eval_images()
    assert bundle.settings["adapt"]["images"] == len(image_files(shifted))
    assert [entry["stage"] for entry in bundle.lineage][-1] == "adapt"


def test_no_labels_are_needed(trained: Bundle, shifted: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, file in enumerate(image_files(shifted)):
        shutil.copy(file, flat / f"{number}.png")
    (flat / "broken.png").write_bytes(b"no image")
    made = make(trained, flat, tmp_path / "b.tledge")
    assert made.field is None
    assert made.advice.startswith("whether it helps is not known")
    assert made.images == len(image_files(shifted))


def _scored(before: list[int], after: list[int]) -> BothScored:
    """Return two networks by the class that each answers for a hundred images of class 0."""
    logits = [np.eye(2, dtype=np.float32)[answers] for answers in (before, after)]
    stages = [SimpleNamespace(row=SimpleNamespace(top1=0.0), logits=some) for some in logits]
    return BothScored(*stages, SimpleNamespace(expected=np.zeros(len(before), np.int64)))  # type: ignore[arg-type]


def test_the_advice_is_to_use_what_gains_where_it_gains() -> None:
    good, bad = [0] * 100, [0] * 60 + [1] * 40
    bundle: Any = None

    def advice(old: BothScored, field: BothScored | None) -> str:
        return Adapted(bundle, 100, 100, old, field).advice

    assert advice(_scored(good, good), _scored(bad, good)) == "a clear gain on these images"
    assert "for this camera alone" in advice(_scored(good, bad), _scored(bad, good))
    assert "keep the network before" in advice(_scored(good, good), _scored(good, good))
    assert "keep the network before" in advice(_scored(good, good), _scored(good, bad))


def test_what_cannot_be_adapted_is_refused_before_anything_is_written(
    trained: Bundle, shifted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "b.tledge"
    board = export_device(trained, tmp_path / "board.tledge")
    with pytest.raises(BundleError, match="no trained network"):
        make(board, shifted, out)
    with pytest.raises(UsageError, match="no batch norms"):
        adapt.norms(create("tledge:mlp", 4)[0])
    few = tmp_path / "few"
    few.mkdir()
    shutil.copy(image_files(shifted)[0], few)
    with pytest.raises(InputError, match="too few"):
        make(trained, few, out)
    with pytest.raises(UsageError, match="in the way"):
        make(trained, shifted, board.path)
    assert not out.exists()
    assert guarded(cli, ["drift", str(trained.path), str(shifted), "--adapt"]) == 2
    assert "-o" in capsys.readouterr().err


def test_train_images_that_are_gone_are_missed(digits: Path, shifted: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(digits, data)
    bundle = finetune(find(data), tmp_path / "a.tledge", dataclasses.replace(QUICK, epochs=1))
    shutil.rmtree(data / "train")
    with pytest.raises(InputError, match="train images"):
        make(bundle, shifted, tmp_path / "b.tledge")
