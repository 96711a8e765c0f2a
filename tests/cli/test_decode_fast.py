"""A bundle that decodes JPEGs fast: chosen by a flag, shown, and the same at every stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tledge.bundle import Bundle
from tledge.cli import cli
from tledge.cli.failure import guarded
from tledge.preprocess import preprocessor

SMALL = ["--backbone", "tledge:cnn", "--weights", "none", "--image-size", "32", "--epochs", "1"]


def run(*words: str | Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    code = guarded(cli, [*map(str, words), "--json", "-q"])
    captured = capsys.readouterr()
    assert code == 0, captured
    document: dict[str, Any] = json.loads(captured.out)
    return document


def test_fast_from_training_to_predict(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fast, exact, plain = tmp_path / "fast.tledge", tmp_path / "exact.tledge", tmp_path / "plain.onnx"
    run("finetune", photos, "-o", fast, *SMALL, "--decode", "fast", capsys=capsys)
    assert run("inspect", fast, capsys=capsys)["preprocessing"]["decode"]["jpeg"] == "fast"
    assert guarded(cli, ["inspect", str(fast)]) == 0
    assert "large JPEGs decoded fast" in capsys.readouterr().out

    # The graph carries its specification; the same graph with the other one is a bundle of other scores.
    run("export", fast, "--for", "onnx", "-o", plain, capsys=capsys)
    run("import", plain, "-o", exact, "--decode", "exact", capsys=capsys)
    opened = Bundle.open(fast)
    assert Bundle.open(exact).spec == opened.spec.with_jpeg("exact")
    assert opened.spec.sha256 != Bundle.open(exact).spec.sha256
    images = [opened.read(image.file) for image in opened.eval_images()]
    tensors = [[preprocessor(Bundle.open(path).spec).jpeg(data) for data in images] for path in (fast, exact)]
    assert any(not np.array_equal(one, other) for one, other in zip(*tensors, strict=True))

    # torch, ONNX Runtime and predict see the same pixels: the network's answers differ by rounding only.
    rows = run("evaluate", fast, capsys=capsys)["ledger"]
    assert all(row["agreement"] == 100 for row in rows if row["parent"] is not None)
    assert all(row["kl"] < 1e-5 for row in rows if row["parent"] is not None)
    file = next((photos / "val").rglob("*.jpg"))
    written = tmp_path / "x.npy"
    hashes = set()
    for using in ("host", "pillow"):
        hashes.add(run("preprocess", fast, file, "--with", using, "-o", written, capsys=capsys)["sha256"])
    assert len(hashes) == 1
    assert np.load(written).tobytes() == preprocessor(opened.spec).jpeg(file.read_bytes()).tobytes()
    answer = run("predict", fast, file, capsys=capsys)["predictions"][0]
    assert answer["error"] is None

    run("calibrate", fast, "--images", "16", "--max-drop", "100", capsys=capsys)
    bench = run("bench", fast, "--variant", "fp32", "--duration", "0.2", "--force", capsys=capsys)
    assert bench["stages_ms"]["decode"]["p50"] > 0
