from __future__ import annotations

import json
import sys

import numpy as np
import onnx
import pytest
import torch

from tledge.errors import MachineError, TledgeError
from tledge.export import compare, parity, to_onnx
from tledge.models import Network, create
from tledge.preprocess import Spec

LABELS = ["ant", "bée", "c d"]


@pytest.fixture(scope="module")
def small() -> tuple[Network, Spec]:
    torch.manual_seed(0)
    network, spec = create("timm:test_efficientnet", 3, weights="none", image_size=64)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean = torch.randn_like(module.running_mean)  # type: ignore[arg-type]
            module.weight.data += 0.1 * torch.randn_like(module.weight)
    return network, spec


@pytest.fixture(scope="module")
def exported(small: tuple[Network, Spec]) -> bytes:
    return to_onnx(*small, LABELS)


def test_the_graph_is_what_others_can_read(small: tuple[Network, Spec], exported: bytes) -> None:
    _, spec = small
    model = onnx.load_from_string(exported)
    assert model.ir_version <= 10
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    (image,), (logits,) = model.graph.input, model.graph.output
    assert (image.name, logits.name) == ("input", "logits")
    assert image.type.tensor_type.shape.dim[0].dim_param
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["tledge.labels"]) == LABELS
    assert Spec.from_json(metadata["tledge.preprocess"]) == spec
    assert not [node for node in model.graph.node if node.op_type == "BatchNormalization"]


def test_names_are_unique_and_come_from_modules(small: tuple[Network, Spec], exported: bytes) -> None:
    model = onnx.load_from_string(exported)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    modules = {name for name, _ in small[0].named_modules()}
    for node in model.graph.node:
        assert node.name.split("/")[0] in modules, node.name
    tensors = [name for node in model.graph.node for name in node.output]
    assert len(set(tensors)) == len(tensors)
    weights = {tensor.name for tensor in model.graph.initializer}
    assert {"head.weight", "head.bias", "body.conv_stem.weight"} <= weights


def test_nothing_of_this_machine_is_in_the_file(exported: bytes) -> None:
    model = onnx.load_from_string(exported)
    assert not [node for node in model.graph.node if node.metadata_props or node.doc_string]
    for word in (b"site-packages", b"/tledge/", sys.prefix.encode(), b"stack_trace"):
        assert word not in exported


def test_the_same_weights_give_the_same_bytes(small: tuple[Network, Spec], exported: bytes) -> None:
    network, spec = small
    assert to_onnx(network.to(memory_format=torch.channels_last), spec, LABELS) == exported  # type: ignore[call-overload]
    assert next(network.parameters()).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_torch_and_onnx_agree(small: tuple[Network, Spec], exported: bytes, count: int) -> None:
    tensors = np.random.default_rng(count).normal(size=(count, 3, 64, 64)).astype(np.float32)
    found = parity(small[0], exported, tensors, threads=1)
    assert (found.images, found.changed) == (count, 0)


def test_a_graph_that_differs_is_refused() -> None:
    ours = np.array([[1.0, 2.0], [5.0, 0.0]], np.float32)
    assert compare(ours, ours).difference == 0
    for theirs in (ours + 0.1, ours[:, ::-1], np.full_like(ours, np.nan)):
        with pytest.raises(TledgeError, match="differs"):
            compare(ours, theirs)


def test_a_change_between_equals_is_no_error() -> None:
    ours = np.array([[1.0, 1.0005]], np.float32)
    assert compare(ours, ours[:, ::-1]).changed == 1


def test_what_cannot_be_exported_says_so(
    small: tuple[Network, Spec], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such operator\nlong story")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(MachineError, match=r"no such operator$"):
        to_onnx(*small, LABELS)
