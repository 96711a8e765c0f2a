"""Recipes: those that ship are whole, the backbone chooses one, and a user's own file is read strictly."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.quantization import networks
from tledge.bundle import Bundle
from tledge.errors import InputError, UsageError
from tledge.progress import Progress
from tledge.quantization import CalibrateSettings, calibrate, calibration_file, recipe
from tledge.quantization.graph import Graph

SETTINGS = CalibrateSettings(images=16, tune=8, max_drop=100.0, min_agreement=0.0, threads=1)
FAMILIES = {
    "efficientnet-lite0": "efficientnet-lite",
    "timm:tf_efficientnet_lite2": "efficientnet-lite",
    "torchvision:mobilenet_v2": "mobilenetv2",
    "timm:mobilenetv2_100": "mobilenetv2",
    "torchvision:mobilenet_v3_small": "mobilenetv3",
    "timm:mobilenetv4_conv_small": "mobilenetv4",
    "torchvision:resnet18": "resnet",
    "timm:regnety_002": "regnet",
    "torchvision:squeezenet1_1": "squeezenet",
    "torchvision:vgg11_bn": "vgg",
    "timm:vit_tiny_patch16_224": "vit",
    "tledge:cnn": "general",
    "timm:ghostnet_100": "general",
}
OWN = """
family = "mine"
backbones = []
images = 8
ranges = ["minmax"]
repair = []
float = ["node_wide", "Gemm"]
[evidence]
measured = false
result = "a guess"
source = "me"
"""


def with_backbone(folder: Path, backbone: str) -> Bundle:
    import json

    header = json.dumps({"__metadata__": {"tledge.network": json.dumps({"backbone": backbone})}}).encode()
    bundle = networks.bundle(folder, networks.mobile())
    with bundle.writing() as writer:
        writer.put("model.safetensors", len(header).to_bytes(8, "little") + header)
        writer.commit("test")
    return Bundle.open(bundle.path)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own.toml").write_text(OWN)
    return tmp_path / "own.toml"


def test_each_recipe_that_ships_is_whole_and_says_what_it_stands_on() -> None:
    assert set(recipe.names()) == set(FAMILIES.values())
    for name in recipe.names():
        found = recipe.find(name)
        assert found.name == name
        assert found.evidence.result
        assert found.evidence.source
        assert found.evidence.measured != found.evidence.result.startswith("not measured"), name


@pytest.mark.parametrize(("backbone", "name"), FAMILIES.items())
def test_the_backbone_chooses_the_recipe(backbone: str, name: str, tmp_path: Path) -> None:
    found, why = recipe.choose(with_backbone(tmp_path, backbone), None)
    assert found.name == name
    assert backbone in why


def test_no_backbone_belongs_to_two_families() -> None:
    from fnmatch import fnmatchcase

    for backbone in FAMILIES:
        word = backbone.rpartition(":")[2]
        fits = [n for n in recipe.names() if any(fnmatchcase(word, p) for p in recipe.find(n).backbones)]
        assert len(fits) <= 1, (backbone, fits)


def test_a_bundle_without_weights_gets_the_general_one(tmp_path: Path) -> None:
    found, why = recipe.choose(networks.bundle(tmp_path, networks.mobile()), None)
    assert found.name == recipe.GENERAL
    assert "does not say" in why


def test_an_own_file_decides(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = networks.bundle(tmp_path, networks.mobile())
    settings = dataclasses.replace(SETTINGS, recipe=str(own), images=None)
    calibrate(bundle, settings=settings, progress=Progress(terminal=False))
    assert "recipe own (mine): asked for" in capsys.readouterr().err
    document = calibration_file.read(Bundle.open(bundle.path))
    assert document["recipe"] == {"name": "own", "sha256": recipe.read(own).sha256}
    assert len(document["images"]) == 8
    for variant in document["variants"].values():
        assert [(t["ranges"], t["corrected"]) for t in variant["trials"]] == [("minmax", False)]
        assert "node_wide" not in variant["layers"]
        assert {"node": "node_wide", "op": "Conv", "rule": "asked"} in variant["float"]


def test_patterns_are_of_nodes_or_operators(own: Path) -> None:
    model = networks.mobile()
    assert recipe.read(own).floating(Graph(model)) == {"node_wide", "node_logits"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("images = 8", "imagse = 8"), "images"),
        (("images = 8", 'images = "8"'), "images"),
        (("images = 8", "images = 0"), "at least one"),
        (("images = 8", ""), "images"),
        (('["minmax"]', '["minmaks"]'), "minmax"),
        (("repair = []", 'repair = ["corection"]'), "correction"),
        (("measured = false", 'measurd = "no"'), "measured"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(own: Path, change: tuple[str, str], said: str) -> None:
    own.write_text(OWN.replace(*change))
    with pytest.raises(UsageError) as caught:
        recipe.find(str(own))
    assert said in f"{caught.value} {caught.value.hint}"
    assert caught.value.exit_code == 2
    assert caught.value.path == str(own)


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="no such recipe: mobilenet2") as caught:
        recipe.find("mobilenet2")
    assert "mobilenetv2" in caught.value.hint


def test_a_missing_file_and_one_that_is_no_toml_are_input_errors(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("family = ")
    for name in ("broken.toml", "missing.toml"):
        with pytest.raises(InputError) as caught:
            recipe.find(str(tmp_path / name))
        assert caught.value.exit_code == 4
