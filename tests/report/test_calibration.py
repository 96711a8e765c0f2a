"""The part of the page about calibration, from a file of the format that calib/README.md specifies."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.report.bundles import make
from tests.report.markup import parse
from tledge.bundle import Bundle
from tledge.errors import BundleError
from tledge.report import gather, layers, page
from tledge.report.calibration import BARS, calibration

pytest.importorskip("matplotlib")

# Bins of 0.25 from -1: one value in [-1, -0.75), then 98 in [0, 0.25), one in [1, 1.25).
TENSOR = {"exponent": -2, "first": -4, "counts": "1 0 0 0 98 0 0 0 1", "minimum": -1.0, "maximum": 1.1}
TRIAL = {
    "ranges": "mse",
    "corrected": True,
    "kl": 0.001,
    "agreement": 99.5,
    "drop": -0.5,
    "float": [],
    "chosen": False,
}
VARIANT = {
    "ranges_by": "mse",
    "corrected": True,
    "ranges": {"all": [-2.0, 2.0], "<b>cut</b>": [-0.5, 0.5]},
    "layers": ["conv"],
    "float": [{"node": "n", "op": "Gemm", "rule": "head"}],
    "trials": [TRIAL | {"corrected": False}, TRIAL, TRIAL | {"float": ["n"], "chosen": True}],
}
DOCUMENT: dict[str, Any] = {
    "schema": 1,
    "images": ["a", "b"],
    "tune": ["c"],
    "tensors": {"all": TENSOR, "<b>cut</b>": TENSOR},
    "variants": {"int8": VARIANT},
}


def with_calibration(path: Path, document: dict[str, Any]) -> Bundle:
    made = make(path)
    document = {"graph_sha256": made.sha256("fp32.onnx")} | document
    with made.writing() as writer:
        writer.put("calibration.json", json.dumps(document).encode())
        return writer.commit("calibrate", settings={})


def test_what_was_decided_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "describe", lambda bundle: {})  # the graph of these bundles is none
    made = with_calibration(tmp_path / "a.tledge", DOCUMENT)
    found = calibration(made)
    assert found is not None
    assert [trial.chosen for trial in found.variants[0].trials] == [False, False, True]
    assert [(one.name, one.clipped) for one in found.histograms] == [("<b>cut</b>", 2.0), ("all", 0.0)]
    assert found.histograms[0].edges == (-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1, 1.25)
    section = next(
        one for one in parse(page(gather(made))).all("section") if one.attributes["id"] == "calibration"
    )
    assert "mse (chosen)" in section.text
    assert "−0.50" in section.text
    assert "head 1" in section.text


def test_long_histograms_are_merged_without_a_loss(tmp_path: Path) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["tensors"]["all"]["counts"] = " ".join(["3"] * 1001)
    found = calibration(with_calibration(tmp_path / "a.tledge", document))
    assert found is not None
    merged = next(one for one in found.histograms if one.name == "all")
    assert len(merged.counts) <= BARS
    assert sum(merged.counts) == 3003
    assert (merged.edges[0], merged.edges[-1]) == (-1.0, -1.0 + 1001 / 4)


@pytest.mark.parametrize("key", ["images", "tensors", "variants", "graph_sha256"])
def test_a_damaged_file_is_a_fault_of_the_bundle(tmp_path: Path, key: str) -> None:
    made = with_calibration(tmp_path / "a.tledge", DOCUMENT | {key: 5})
    with pytest.raises(BundleError, match=r"calibration\.json"):
        calibration(made)
