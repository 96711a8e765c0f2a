"""Small float networks made with onnx.helper, and a bundle of one with real files to calibrate on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tests.runtime.bundles import LABELS, png, put_eval, spec
from tledge.bundle import Bundle, TrainFile, records


class Net:
    """Collects nodes and weights of a network with the input "images", N x 3 x 16 x 16."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes = []
        self.weights = []

    def constant(self, name: str, values) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"node_{output}", **attributes))
        return output

    def conv(self, x: str, output: str, shape: tuple[int, ...], group: int = 1, scale: float = 1.0) -> str:
        spread = scale / np.sqrt(np.prod(shape[1:]))
        weight = self.random.standard_normal(shape).astype(np.float32) * np.float32(spread)
        bias = self.random.standard_normal(shape[0]).astype(np.float32) * np.float32(0.1)
        inputs = [x, self.constant(f"{output}.w", weight), self.constant(f"{output}.b", bias)]
        return self.node("Conv", inputs, output, group=group, pads=[shape[2] // 2] * 4)

    def clip(self, x: str, output: str, high: float = 6.0) -> str:
        low = self.constant(f"{output}.low", np.float32(0))
        return self.node("Clip", [x, low, self.constant(f"{output}.high", np.float32(high))], output)

    def head(self, x: str, channels: int, classes: int = 5) -> str:
        pooled = self.node("GlobalAveragePool", [x], "pooled")
        flat = self.node("Flatten", [pooled], "flat")
        weight = self.random.standard_normal((classes, channels)).astype(np.float32)
        inputs = [
            flat,
            self.constant("head.w", weight),
            self.constant("head.b", np.zeros(classes, np.float32)),
        ]
        return self.node("Gemm", inputs, "logits", transB=1)

    def model(self, opset: int = 18, classes: int = 5) -> ModelProto:
        images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 16, 16])
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])
        graph = helper.make_graph(self.nodes, "net", [images], [logits], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def scaled_apart(channels: slice, by: float) -> ModelProto:
    """Return a Relu network; some channels of one layer are `by` times as large, undone in the next."""
    net = Net(3)
    stem = net.node("Relu", [net.conv("images", "stem", (16, 3, 3, 3))], "stem.act")
    wide = net.node("Relu", [net.conv(stem, "wide", (32, 16, 1, 1))], "wide.act")
    last = net.node("Relu", [net.conv(wide, "last", (32, 32, 3, 3))], "last.act")
    net.head(net.node("Relu", [net.conv(last, "end", (32, 32, 1, 1))], "end.act"), 32)
    model = net.model()
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        if tensor.name in ("wide.w", "wide.b"):
            array[channels] *= by
        elif tensor.name == "last.w":
            array[:, channels] /= by
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


def mobile(seed: int = 0) -> ModelProto:
    """Return a stem, an inverted residual block, a convolution and a head, as in MobileNetV2."""
    net = Net(seed)
    stem = net.clip(net.conv("images", "stem", (16, 3, 3, 3)), "stem.act")
    wide = net.clip(net.conv(stem, "wide", (32, 16, 1, 1), scale=1.4), "wide.act")
    deep = net.clip(net.conv(wide, "deep", (32, 1, 3, 3), group=32, scale=1.4), "deep.act")
    thin = net.conv(deep, "thin", (16, 32, 1, 1), scale=1.4)
    total = net.node("Add", [thin, stem], "sum")
    last = net.node("Relu", [net.conv(total, "last", (32, 16, 1, 1), scale=1.4)], "last.act")
    net.head(last, 32)
    return net.model()


def fire(seed: int = 0) -> ModelProto:
    """Return two branches that are concatenated, then pooled: as in SqueezeNet."""
    net = Net(seed)
    stem = net.node("Relu", [net.conv("images", "stem", (16, 3, 3, 3))], "stem.act")
    left = net.node("Relu", [net.conv(stem, "left", (16, 16, 1, 1), scale=0.5)], "left.act")
    right = net.node("Relu", [net.conv(stem, "right", (16, 16, 3, 3), scale=2.0)], "right.act")
    both = net.node("Concat", [left, right], "both", axis=1)
    small = net.node("MaxPool", [both], "small", kernel_shape=[2, 2], strides=[2, 2])
    last = net.node("Relu", [net.conv(small, "last", (32, 32, 3, 3))], "last.act")
    net.head(last, 32)
    return net.model()


def images(count: int = 16, seed: int = 0) -> np.ndarray:
    """Return input tensors in [-1, 1]: float32 N x 3 x 16 x 16."""
    noise = np.random.default_rng(seed).uniform(-1, 1, (count, 3, 4, 4)).astype(np.float32)
    return noise.repeat(4, axis=2).repeat(4, axis=3)


def bundle(
    folder: Path, model: ModelProto, train: int = 24, tune: int = 8, eval_images: int = 12, classes: int = 5
) -> Bundle:
    """Write a finished bundle of the model, and below `folder/data` the images that it was trained on."""
    files = []
    for seed in range(100, 100 + train + tune):
        label = seed % classes
        path = folder / "data" / "train" / LABELS[label] / f"{seed}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(seed))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        name = str(path.relative_to(folder / "data"))
        files.append(TrainFile(name, label, digest, "train" if seed < 100 + train else "tune"))
    made = Bundle.create(folder / "net.tledge")
    with made.writing() as writer:
        writer.put("labels.txt", "".join(f"{label}\n" for label in LABELS).encode())
        writer.put("preprocess.json", spec().to_json().encode())
        writer.put("fp32.onnx", model.SerializeToString())
        writer.put("train.json", records.encode(files, root=str(folder / "data")))
        if eval_images:
            put_eval(writer, eval_images)
        writer.commit("import", settings={})
        return writer.finish()
