"""A Triton repository, its configuration read with Triton's own schema."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.runtime import bundles, graphs
from tledge.bundle import Bundle
from tledge.deploy.graph import Ports
from tledge.deploy.triton import config, export_triton, model_name
from tledge.errors import MachineError, UsageError

DYNAMIC = Ports("x", "float32", None, "logits", "float32", 2)


def schema():
    """Return Triton's messages out of its client's wheel, without importing the client (it needs grpc)."""
    found = importlib.util.find_spec("tritonclient")
    if found is None:
        pytest.skip("tritonclient, which carries Triton's schema, is not installed")
    path = Path(found.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parsed(text: str):
    from google.protobuf import text_format

    return text_format.Parse(text, schema().ModelConfig())


def test_the_repository_is_what_triton_reads(tmp_path):
    bundle = bundles.make(tmp_path / "my photos.tledge")
    out = tmp_path / "repository"
    export_triton(bundle, "fp32", out)
    model = out / "my_photos"
    read = parsed((model / "config.pbtxt").read_text())
    assert (read.name, read.backend, read.max_batch_size) == (model.name, "onnxruntime", 16)
    assert read.input[0].name == "x"
    assert list(read.input[0].dims) == [3, 16, 16]
    assert list(read.output[0].dims) == [5]
    assert (model / read.output[0].label_filename).read_text().split() == list(bundles.LABELS)
    assert [warm.batch_size for warm in read.model_warmup] == [1, 16]
    assert list(read.model_warmup[0].inputs["x"].dims) == [3, 16, 16]
    assert read.HasField("dynamic_batching")
    assert read.version_policy.latest.num_versions == 1
    assert (model / "1" / read.default_model_filename).read_bytes() == bundle.read("fp32.onnx")


def test_a_fixed_batch_is_in_the_dimensions():
    read = parsed(config("m", Ports("x", "uint8", 4, "y", "float16", 4), (16, 16, 3), 5))
    assert read.max_batch_size == 0
    assert list(read.input[0].dims) == [4, 16, 16, 3]
    assert list(read.output[0].dims) == [4, 5, 1, 1]
    assert not read.HasField("dynamic_batching")
    assert [warm.batch_size for warm in read.model_warmup] == [1]
    assert (read.input[0].data_type, read.output[0].data_type) == (
        schema().TYPE_UINT8,
        schema().TYPE_FP16,
    )


def test_the_cpu_placement_stays_on_the_cpu():
    assert parsed(config("m", DYNAMIC, (3, 8, 8), 2, cpu=True)).instance_group[0].kind == 2
    assert not parsed(config("m", DYNAMIC, (3, 8, 8), 2)).instance_group


def test_the_exported_graph_gives_the_bundles_logits(tmp_path):
    import onnxruntime

    bundle = bundles.make(tmp_path / "b.tledge")
    export_triton(bundle, "fp32", tmp_path / "out")
    session = onnxruntime.InferenceSession(
        (tmp_path / "out" / "b" / "1" / "model.onnx").read_bytes(), providers=["CPUExecutionProvider"]
    )
    x = np.random.default_rng(1).standard_normal((3, 3, 16, 16)).astype(np.float32)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], graphs.expected(x), atol=1e-4)


def test_what_is_in_the_way_stays(tmp_path):
    bundle = bundles.make(tmp_path / "b.tledge")
    out = tmp_path / "out"
    export_triton(bundle, "fp32", out)
    with pytest.raises(UsageError, match="in the way"):
        export_triton(bundle, "fp32", out)
    export_triton(bundle, "fp32", out, force=True, batch=4)
    assert parsed((out / "b" / "config.pbtxt").read_text()).max_batch_size == 4
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        export_triton(bundle, "fp32", out, force=True)
    assert (out / "notes.txt").read_text() == "mine"


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    from tledge.deploy import folder

    bundle = bundles.make(tmp_path / "b.tledge")
    real, count = folder.write_flushed, []

    def full(path, data):
        count.append(path)
        if len(count) == 4:
            raise MachineError("the disk is full")
        real(path, data)

    monkeypatch.setattr(folder, "write_flushed", full)
    with pytest.raises(MachineError):
        export_triton(bundle, "fp32", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tledge"]


def test_unknown_variants_and_names(tmp_path):
    bundle = bundles.make(tmp_path / "b.tledge")
    with pytest.raises(UsageError, match="no variant int8"):
        export_triton(bundle, "int8", tmp_path / "out")
    assert model_name(Path("/x/blüten 2.tledge")) == "bl_ten_2"


def test_the_command(tmp_path):
    bundles.make(tmp_path / "b.tledge")
    words = ["export", "b.tledge", "--for", "triton", "-o", "repository", "--json"]
    run = subprocess.run(
        [sys.executable, "-m", "tledge", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    assert answer["files"] == ["b/config.pbtxt", "b/labels.txt", "b/preprocess.json", "b/1/model.onnx"]
    assert Bundle.open(tmp_path / "b.tledge").problems() == ()
