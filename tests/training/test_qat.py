"""`tledge finetune --qat`: a network that was trained to bear INT8, from a bundle to a bundle."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from tests.training.conftest import QUICK
from tests.training.test_finetune import StopAt, Stopped
from tledge.bundle import Bundle
from tledge.data import find
from tledge.errors import UsageError
from tledge.quantization import calibration_file
from tledge.quantization.emit_trt import scales
from tledge.quantization.graph import Graph, load
from tledge.quantization.placement import place
from tledge.training import FinetuneSettings, finetune


@pytest.fixture(scope="module")
def source(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return finetune(find(digits), tmp_path_factory.mktemp("source") / "a.tledge", QUICK)


@pytest.fixture(scope="module")
def settings(source: Bundle) -> FinetuneSettings:
    return dataclasses.replace(
        QUICK, backbone="tledge:cnn", from_bundle=str(source.path), qat=True, image_size=None
    )


@pytest.fixture(scope="module")
def made(source: Bundle, settings: FinetuneSettings, digits: Path) -> Bundle:
    return finetune(find(digits), source.path.with_name("b.tledge"), settings)


def test_every_variant_is_scored(source: Bundle, made: Bundle):
    assert made.state == "finished"
    assert made.variants == ("fp32", "fp16", "int8", "int8-cpu")
    stages = {row.stage: row for row in made.ledger}
    assert {"torch", "fp32@onnxruntime", "int8@onnxruntime", "int8-cpu@onnxruntime"} <= set(stages)
    assert stages["fp32@onnxruntime"].flips == 0
    assert stages["int8@onnxruntime"].top1 >= source.row("torch").top1 - 5
    assert made.sha256("model.safetensors") != source.sha256("model.safetensors")
    assert len(made.settings["finetune"]["chosen"]["history"]) == QUICK.epochs


def test_the_graph_has_the_scales_that_it_was_trained_with(made: Bundle):
    ranges = calibration_file.ranges(calibration_file.read(made), "int8")
    placement = place(Graph(load(made.read("fp32.onnx"))), "int8")
    graph = onnx.load_from_string(made.read("int8.onnx")).graph
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    _, wanted = scales(placement, ranges)
    assert placement.layers
    for layer in placement.layers:
        assert known[f"{layer.input}.scale"] == pytest.approx(wanted[layer.input].scale)


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(
    source: Bundle, made: Bundle, settings: FinetuneSettings, digits: Path
):
    out = source.path.with_name("c.tledge")
    with pytest.raises(Stopped):
        finetune(find(digits), out, settings, StopAt("epoch 3"))
    again = finetune(find(digits), out, settings, resume=True)
    assert again.sha256("model.safetensors") == made.sha256("model.safetensors")
    assert again.sha256("int8.onnx") == made.sha256("int8.onnx")


def test_what_cannot_be_trained_so_is_refused_before_anything_is_written(
    source: Bundle, settings: FinetuneSettings, digits: Path, tmp_path: Path
):
    with pytest.raises(UsageError, match="--qat needs a trained network"):
        FinetuneSettings(qat=True)
    with pytest.raises(UsageError, match="head 'mlp:8' was asked for"):
        FinetuneSettings(qat=True, from_bundle="a.tledge", head="mlp:8")
    fewer = tmp_path / "fewer"
    for part in ("train", "val"):
        for name in ("0", "1"):
            (fewer / part).mkdir(parents=True, exist_ok=True)
            (fewer / part / name).symlink_to(digits / part / name)
    with pytest.raises(UsageError, match="knows other classes"):
        finetune(find(fewer), tmp_path / "d.tledge", settings)
    assert not (tmp_path / "d.tledge").exists()
