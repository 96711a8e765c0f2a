"""The part of the page about layers, of a network that was really calibrated, and of an engine's report."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.quantization import networks
from tests.report.markup import parse
from tests.report.test_page import HOSTILE
from tledge.bundle import Bundle
from tledge.errors import MachineError
from tledge.quantization import CalibrateSettings, calibrate
from tledge.report import gather, layers, page

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    bundle = networks.bundle(tmp_path_factory.mktemp("layers"), networks.mobile())
    calibrate(bundle, settings=CalibrateSettings(images=16, tune=8, max_drop=100.0, threads=1, ranges="mse"))
    return Bundle.open(bundle.path)


def text_of(bundle: Bundle) -> str:
    section = next(
        one for one in parse(page(gather(bundle))).all("section") if one.attributes["id"] == "layers"
    )
    return " ".join(section.text.split())


def test_the_noisiest_layers_come_first(made: Bundle) -> None:
    found = layers.layers(made)
    assert [variant.name for variant in found.variants] == ["int8", "int8-cpu"]
    for variant in found.variants:
        noise = [one.sqnr or 0.0 for one in variant.noisiest]
        assert noise == sorted(noise)
        assert len(noise) >= 5
    text = text_of(made)
    assert "× Conv, int8" in text
    assert "vector-product" in text
    assert "tledge build-engine B" in text


def test_without_onnx_the_page_says_what_it_lacks(made: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(bundle: Bundle) -> Any:
        raise MachineError("the package onnx is missing")

    monkeypatch.setattr(layers, "describe", lacking)
    assert "the package onnx is missing" in text_of(made)


def test_an_engine_says_its_layers_types(made: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    report = {
        "layers": 40,
        "reformats": 2,
        "kinds": {"correlation Int8 -> Float": 30, HOSTILE[1]: 10},
        "int8_wanted": 3,
        "not_int8": [HOSTILE[3]],
    }
    engine = SimpleNamespace(
        name=HOSTILE[0],
        backend="tensorrt",
        library="10.3.0",
        plan_bytes=2**20,
        batch=(1, 4, 8),
        layers=report,
    )
    monkeypatch.setattr(layers, "engines", lambda bundle: (engine,))
    text = text_of(made)
    for word in ("correlation Int8 -> Float", "1.0 MiB, batch 1:4:8", "2 of the 3 nodes", *HOSTILE[:2]):
        assert word in text


def test_a_bundle_without_calibration_says_how_to_get_it(tmp_path: Path) -> None:
    assert "tledge calibrate B" in text_of(networks.bundle(tmp_path, networks.mobile()))
