"""A bundle whose frames have their planes resized first: chosen by a flag, shown, done to frames alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.runtime import bundles
from tledge.bundle import Bundle
from tledge.cli import cli
from tledge.cli.failure import guarded
from tledge.preprocess.frames import Frame
from tledge.runtime import load

pytest.importorskip("onnxruntime")


def test_planes_first_from_import_to_a_frame(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    usual = bundles.make(tmp_path / "usual.tledge")
    other = tmp_path / "planes.tledge"
    spec, labels, graph = (usual.path / name for name in ("preprocess.json", "labels.txt", "fp32.onnx"))
    words = ["import", graph, "-o", other, "--spec", spec, "--labels", labels, "--frames", "planes-first"]
    assert guarded(cli, [*map(str, words), "--json", "-q"]) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert Bundle.open(other).spec == usual.spec.with_frames("planes-first")
    assert guarded(cli, ["inspect", str(other)]) == 0
    assert "planes resized before conversion" in capsys.readouterr().out
    assert guarded(cli, ["inspect", str(other), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["preprocessing"]["frames"] == {"order": "planes-first"}

    data = np.random.default_rng(0).integers(0, 256, 64 * 48 * 3 // 2, np.uint8).tobytes()
    frame = Frame.packed(data, "nv12", 64, 48, matrix="bt709", range="limited", siting="left")
    tensors = [load(path).preprocess(frame) for path in (usual.path, other)]
    assert not np.array_equal(*tensors)
    images = [load(path).preprocess(bundles.png(1)) for path in (usual.path, other)]
    assert np.array_equal(*images)
