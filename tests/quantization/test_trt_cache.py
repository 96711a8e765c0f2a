"""The calibration cache, against lines as TensorRT itself writes them, and read back."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.quantization import networks
from tledge.bundle import Bundle
from tledge.cli import cli
from tledge.errors import InputError, UsageError
from tledge.quantization import calibration_file, trt_cache


def test_golden() -> None:
    # 1/127 is 0x3c010204, and 2.0 is 0x40000000.
    golden = b"TRT-100300-EntropyCalibration2\ninput: 3c010204\nlayer1.0/Relu:0: 40000000\n"
    assert trt_cache.render({"layer1.0/Relu:0": 2.0, "input": 1 / 127}) == golden


def test_a_name_that_breaks_the_line_is_refused() -> None:
    with pytest.raises(UsageError, match="breaks the line"):
        trt_cache.render({"a\nb": 1.0})


def test_the_command_writes_the_scales_of_the_graph(tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    bundle = networks.bundle(tmp_path, networks.fire())
    out = tmp_path / "calibration.cache"
    words = ["calibrate", str(bundle.path), "--max-drop", "100", "--ranges", "mse", "--images", "8"]
    ran = CliRunner().invoke(cli, [*words, "--write-trt-cache", str(out), "-q"])
    assert ran.exit_code == 0, ran.output
    header, *lines = out.read_text().splitlines()
    assert header.startswith("TRT-")
    assert header.endswith("-EntropyCalibration2")
    scales = {}
    for line in lines:
        name, _, digits = line.rpartition(": ")
        scales[name] = struct.unpack(">f", bytes.fromhex(digits))[0]
    bundle = Bundle.open(bundle.path)
    assert scales.keys() == calibration_file.read(bundle)["tensors"].keys()
    assert all(scale > 0 for scale in scales.values())
    graph = onnx.load_from_string(bundle.read("int8.onnx")).graph
    emitted = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            name = node.input[1].removesuffix(".scale")
            assert scales[name] == emitted[node.input[1]]


def test_a_cache_in_no_folder_is_said_before_anything_is_done(tmp_path: Path) -> None:
    bundle = networks.bundle(tmp_path, networks.fire())
    words = ["calibrate", str(bundle.path), "--write-trt-cache", str(tmp_path / "none" / "x.cache")]
    ran = CliRunner().invoke(cli, words)
    assert isinstance(ran.exception, InputError)
    assert "calibration.json" not in Bundle.open(bundle.path).names
