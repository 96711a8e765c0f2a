"""What nvinfer is given, played by hand: its arithmetic and label file as its documentation says them."""

from __future__ import annotations

import configparser
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from tests.runtime import bundles, graphs
from tledge.bundle import Bundle, probabilities
from tledge.deploy.deepstream import differences, export_deepstream, labels, placed
from tledge.errors import BundleError, UsageError
from tledge.preprocess import Box, Crop, Decode, Letterbox, Spec, preprocessor

onnxruntime = pytest.importorskip("onnxruntime")
SIZE = (16, 16)


def make(path: Path, spec: Spec, graph: bytes | None = None, variant: str = "fp32") -> Bundle:
    """Write a bundle with this specification and graph."""
    bundle = Bundle.create(path)
    with bundle.writing() as writer:
        writer.put("labels.txt", "".join(f"{label}\n" for label in bundles.LABELS).encode())
        writer.put("preprocess.json", spec.to_json().encode())
        writer.put("fp32.onnx", graph or graphs.classifier())
        if variant != "fp32":
            writer.put(f"{variant}.onnx", graph or graphs.classifier())
        writer.commit("import", settings={})
        return writer.finish()


def read(out: Path) -> configparser.SectionProxy:
    parser = configparser.ConfigParser()
    parser.read_string((out / "config_infer.txt").read_text())
    return parser["property"]


def nvinfer(out: Path, frame: np.ndarray) -> np.ndarray:
    """Return the probabilities for a frame (H x W x 3) that needs no resizing, as nvinfer would make them."""
    said = read(out)
    channels, height, width = map(int, said["infer-dims"].split(";"))
    assert (height, width, channels) == frame.shape
    ordered = frame[:, :, ::-1] if said["model-color-format"] == "1" else frame
    offsets = np.array([float(word) for word in said["offsets"].split(";")], np.float32)
    y = np.float32(said["net-scale-factor"]) * (ordered.astype(np.float32) - offsets)
    session = onnxruntime.InferenceSession(
        (out / said["onnx-file"]).read_bytes(), providers=["CPUExecutionProvider"]
    )
    (port,) = session.get_inputs()
    assert port.type == "tensor(float)"
    (answer,) = session.run(None, {port.name: np.ascontiguousarray(y.transpose(2, 0, 1)[None])})
    assert answer.dtype == np.float32
    return answer[0]


def nhwc(dtype: int = TensorProto.FLOAT) -> bytes:
    from onnx import helper, numpy_helper

    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
    ]
    return graphs.graph(
        nodes,
        inputs=[graphs.value("x", ["N", *SIZE, 3], dtype)],
        outputs=[graphs.value("p", ["N", 5, 1, 1])],
        weights=[numpy_helper.from_array(graphs.WEIGHTS * np.float32(0.02), "w")],
    )


STD = (0.229, 0.224, 0.225)
MEAN = (0.485, 0.456, 0.406)
IMAGENET = {"geometry": Box(size=SIZE), "mean": MEAN, "std": STD}
CROP = Crop(resize=20, size=SIZE)


@pytest.mark.parametrize(
    ("spec", "graph", "frame"),
    [
        (Spec(geometry=Box(size=SIZE), mean=MEAN, std=(0.25,) * 3), None, (16, 16)),
        (Spec(**IMAGENET), None, (16, 16)),
        (Spec(**IMAGENET, decode=Decode(colour="bgr")), None, (16, 16)),
        (Spec(geometry=CROP, mean=MEAN, std=STD), None, (31, 20)),
        (Spec(geometry=CROP, decode=Decode(colour="bgr")), None, (20, 27)),
        (Spec(geometry=Crop(resize=(24, 18), size=SIZE)), None, (18, 24)),
        (Spec(geometry=Letterbox(size=SIZE)), None, (16, 16)),
        (Spec(**IMAGENET, layout="NHWC"), nhwc(), (16, 16)),
        (
            Spec(**IMAGENET, layout="NHWC", dtype="int8", scale=0.02, zero_point=-3),
            nhwc(TensorProto.INT8),
            (16, 16),
        ),
        (
            Spec(geometry=CROP, layout="NHWC", dtype="uint8", scale=0.01, zero_point=128),
            nhwc(TensorProto.UINT8),
            (22, 20),
        ),
        (
            Spec(**IMAGENET, dtype="float16"),
            graphs.classifier(dtype=TensorProto.FLOAT16),
            (16, 16),
        ),
    ],
)  # fmt: skip
def test_nvinfer_gets_the_bundles_answers(tmp_path, spec, graph, frame):
    import tledge

    bundle = make(tmp_path / "b.tledge", spec, graph)
    export_deepstream(bundle, "fp32", tmp_path / "out", frame=frame)
    model = tledge.load(bundle.path, backend="onnxruntime", threads=1)
    for seed in range(5):
        pixels = bundles.pixels(seed, (frame[1], frame[0]))
        tensor = preprocessor(spec)(pixels)[np.newaxis]
        logits = model.logits(tensor)[0].astype(np.float64)
        known = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        exact = spec.dtype in ("int8", "uint8")  # then a level at a rounding's edge may go the other way
        np.testing.assert_allclose(
            nvinfer(tmp_path / "out", pixels), known, rtol=2e-2 if exact else 2e-3, atol=1e-7
        )


def test_one_std_is_nvinfers_and_three_are_the_graphs(tmp_path):
    import onnx

    one = make(tmp_path / "one.tledge", Spec(geometry=Box(size=SIZE), mean=MEAN, std=(0.25,) * 3))
    export_deepstream(one, "fp32", tmp_path / "one")
    said = read(tmp_path / "one")
    assert float(said["net-scale-factor"]) == pytest.approx(1 / 255 / 0.25, rel=1e-9)
    assert [float(word) for word in said["offsets"].split(";")] == pytest.approx([255 * m for m in MEAN])
    three = make(tmp_path / "three.tledge", Spec(geometry=Box(size=SIZE), mean=MEAN, std=STD))
    export_deepstream(three, "fp32", tmp_path / "three")
    said = read(tmp_path / "three")
    assert (said["net-scale-factor"], said["offsets"]) == ("1", "0;0;0")
    operators = [node.op_type for node in onnx.load(tmp_path / "three" / "model.onnx").graph.node]
    assert operators == ["Mul", "Add", "Conv", "GlobalAveragePool", "Flatten", "Softmax"]


def test_probabilities_are_at_the_bundles_temperature_and_unsure_ones_have_no_label(tmp_path):
    import tledge

    bundle = make(tmp_path / "b.tledge", Spec(**IMAGENET))
    with bundle.writing() as writer:
        writer.put(probabilities.NAME, probabilities.Probabilities({"fp32": 2.5}, 0.3).encode())
        writer.commit("calibrate", settings={})
    export_deepstream(Bundle.open(bundle.path), "fp32", tmp_path / "out")
    pixels = bundles.pixels(1, SIZE)
    answer = tledge.load(bundle.path, backend="onnxruntime").predict(pixels, top_k=5)
    assert nvinfer(tmp_path / "out", pixels).max() == pytest.approx(answer.probability, rel=1e-4)
    assert float(read(tmp_path / "out")["classifier-threshold"]) == 0.3


def test_the_labels_are_one_line_for_the_one_output(tmp_path):
    bundle = make(tmp_path / "b.tledge", Spec(geometry=Box(size=SIZE)))
    export_deepstream(bundle, "fp32", tmp_path / "out")
    text = (tmp_path / "out" / read(tmp_path / "out")["labelfile-path"]).read_text()
    assert [line.split(";") for line in text.splitlines()] == [list(bundles.LABELS)]
    with pytest.raises(UsageError, match="'a;b' has a semicolon"):
        labels(("a;b", "c"))


def test_what_is_cropped_depends_on_the_frames():
    spec = Spec(geometry=Crop(resize=256, size=(224, 224)))
    wide = placed(spec, (1920, 1080))
    assert (wide.resized_width, wide.resized_height, wide.left, wide.top) == (455, 256, 116, 16)
    assert any("--frame" in text for text in differences(spec, "fp32", (1920, 1080)))
    assert not any("--frame" in text for text in differences(Spec(geometry=Box(size=SIZE)), "fp32", (9, 9)))


def test_a_letterbox_is_nvinfers_own(tmp_path):
    spec = Spec(geometry=Letterbox(size=SIZE, fill=(114, 114, 114), anchor="top-left"))
    exported = export_deepstream(make(tmp_path / "b.tledge", spec), "fp32", tmp_path / "out")
    said = read(tmp_path / "out")
    assert (said["maintain-aspect-ratio"], said["symmetric-padding"]) == ("1", "0")
    assert said["infer-dims"] == "3;16;16"
    assert "the border is black, not [114, 114, 114]" in exported.differences
    assert "black, not [114, 114, 114]" in (tmp_path / "out" / "config_infer.txt").read_text()


def test_a_fixed_batch_is_the_engines(tmp_path):
    bundle = make(tmp_path / "b.tledge", Spec(geometry=Box(size=SIZE)), graphs.classifier(batch=4))
    export_deepstream(bundle, "fp32", tmp_path / "out")
    said = read(tmp_path / "out")
    assert (said["batch-size"], said["model-engine-file"]) == ("4", "model.onnx_b4_gpu0_fp32.engine")


def test_variants(tmp_path):
    bundle = make(tmp_path / "b.tledge", Spec(geometry=Box(size=SIZE)), variant="fp16")
    export_deepstream(bundle, "fp16", tmp_path / "half")
    assert read(tmp_path / "half")["network-mode"] == "2"
    with pytest.raises(UsageError, match="int8-cpu is a placement for x86"):
        export_deepstream(bundle, "int8-cpu", tmp_path / "out")
    with pytest.raises(UsageError, match="no variant int8"):
        export_deepstream(bundle, "int8", tmp_path / "out")
    uncalibrated = make(tmp_path / "c.tledge", Spec(geometry=Box(size=SIZE)), variant="int8")
    with pytest.raises(BundleError):
        export_deepstream(uncalibrated, "int8", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_differs(tmp_path):
    bundle = make(tmp_path / "b.tledge", Spec(geometry=Crop(resize=20, size=SIZE)))
    words = [
        "export",
        bundle.path,
        "--for",
        "deepstream",
        "--frame",
        "640x480",
        "-o",
        tmp_path / "out",
        "--json",
    ]
    run = subprocess.run(
        [sys.executable, "-m", "tledge", *map(str, words)], capture_output=True, text=True, check=True
    )
    document = json.loads(run.stdout)
    assert sorted(document["files"]) == ["config_infer.txt", "labels.txt", "model.onnx", "preprocess.json"]
    assert document["frame"] == [640, 480]
    assert read(tmp_path / "out")["infer-dims"] == "3;20;26"
    assert len(document["differences"]) == run.stderr.count("otherwise than preprocess.json says") == 3


def test_int8_is_the_float_graph_with_a_range_for_each_of_its_tensors(tmp_path):
    import onnx
    from click.testing import CliRunner

    from tests.quantization import networks
    from tledge.cli import cli

    path = networks.bundle(tmp_path, networks.fire()).path
    words = ["calibrate", str(path), "--max-drop", "100", "--ranges", "mse", "--images", "8", "-q"]
    assert CliRunner().invoke(cli, words).exit_code == 0
    exported = export_deepstream(Bundle.open(path), "int8", tmp_path / "out")
    said = read(tmp_path / "out")
    assert said["network-mode"] == "1"
    lines = (tmp_path / "out" / said["int8-calib-file"]).read_text().splitlines()[1:]
    graph = onnx.load(tmp_path / "out" / "model.onnx").graph
    assert not [node for node in graph.node if node.op_type == "QuantizeLinear"]
    tensors = {name for node in graph.node for name in (*node.input, *node.output)}
    assert {line.rpartition(": ")[0] for line in lines} <= tensors
    assert any("TensorRT 11 cannot" in text for text in exported.differences)
