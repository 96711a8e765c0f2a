"""The ONNX graph of a network: dynamic batch, names that a person can read, nothing of this machine in it.

The same weights give the same bytes. Batch norms are folded into convolutions by the exporter's optimiser.
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from typing import Any

import onnx
import torch

from tledge import __version__
from tledge.bundle.foreign import LABELS_KEY, SPEC_KEY
from tledge.errors import MachineError
from tledge.models import Network
from tledge.preprocess import Spec

# TensorRT 10.3 (JetPack 6) reads opset 9 to 20 and, being built with ONNX 1.16, IR version 10:
# https://github.com/onnx/onnx-tensorrt/blob/release/10.3-GA/docs/operators.md. 18 is the exporter's own.
OPSET = 18
LARGEST_IR = 10
INPUT, OUTPUT = "input", "logits"


def to_onnx(network: Network, spec: Spec, labels: tuple[str, ...] | list[str]) -> bytes:
    """Return the network as an ONNX file, with labels and spec in its metadata_props.

    The input "input" is float32 N x 3 x H x W of any N, the output "logits" float32 N x classes.

    Raises:
        MachineError: this network cannot be exported by the installed torch.
    """
    model = _export(network, spec)
    model.ir_version = min(model.ir_version, LARGEST_IR)
    model.producer_name, model.producer_version = "tledge", __version__
    clean(model)
    rename(model, set(network.state_dict()))
    for key, value in (
        (LABELS_KEY, json.dumps(list(labels), ensure_ascii=False)),
        (SPEC_KEY, spec.to_json()),
    ):
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _export(network: Network, spec: Spec) -> onnx.ModelProto:
    # A copy: the exporter wants the weights in plain order, on the CPU, and must not change the caller's.
    plain = copy.deepcopy(network).cpu().float().eval().to(memory_format=torch.contiguous_format)
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                plain,
                # Two images: a batch of one would be taken for a constant.
                (torch.zeros(2, *spec.shape),),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("N")},),
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                verbose=False,
            )
    except Exception as error:
        raise MachineError(
            f"torch {torch.__version__} cannot export {network.config['backbone']} to ONNX: "
            f"{(str(error).strip().splitlines() or ['no reason given'])[0]}",
            hint="Try another version of torch, or another backbone.",
        ) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    if program is None:
        raise MachineError("torch gave no ONNX graph")
    return program.model_proto


def clean(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes for its own developers; it names files of this machine."""
    graph = model.graph
    del model.metadata_props[:]
    model.doc_string = ""
    del graph.metadata_props[:]
    graph.doc_string, graph.name = "", "tledge"
    for node in graph.node:
        scopes = {entry.key: entry.value for entry in node.metadata_props}.get(
            "pkg.torch.onnx.name_scopes", "[]"
        )
        # `rename` needs the module's path: it is kept for a moment where the name is.
        node.name = _module(scopes)
        del node.metadata_props[:]
        node.doc_string = ""
    values: list[Any] = [*graph.value_info, *graph.input, *graph.output, *graph.initializer]
    for value in values:
        del value.metadata_props[:]
        value.doc_string = ""


def _module(scopes: str) -> str:
    """Return "body.blocks.0" of "['', 'body', 'body.blocks', 'body.blocks.0', 'conv2d_3']"."""
    names = [part.strip(" '\"") for part in scopes.strip("[]").split(",")]
    return names[-2] if len(names) > 1 else ""


def rename(model: onnx.ModelProto, weights: set[str]) -> None:
    """Name each node after its module, and each tensor after its node; nodes' names are module paths here.

    A convolution or a matrix product is named after its weight (`body.conv_stem`), other nodes after module
    and operator (`body.bn1.act/Clip`). A node's first output is called `NAME:0`. Tensors that are neither
    weights nor outputs are named after the first node that reads them.
    """
    graph = model.graph
    new = {INPUT: INPUT, OUTPUT: OUTPUT}
    taken: set[str] = set()
    initializers = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        weight = node.input[1] if len(node.input) > 1 else ""
        if node.op_type in ("Conv", "Gemm", "MatMul") and weight in weights:
            wanted = weight.removesuffix(".weight")
        else:
            wanted = f"{node.name}/{node.op_type}" if node.name else node.op_type
        node.name = _free(wanted, taken)
        for position, name in enumerate(node.input):
            if name in initializers and name not in new:
                new[name] = _constant_name(node, position, name, weights, set(new.values()))
        for position, name in enumerate(node.output):
            new.setdefault(name, f"{node.name}:{position}")
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = new.get(tensor.name, tensor.name)
    known = [value for value in graph.value_info if value.name in new and value.name not in initializers]
    for value in known:
        value.name = new[value.name]
    kept = [copy.deepcopy(value) for value in known]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def _constant_name(node: Any, position: int, name: str, weights: set[str], taken: set[str]) -> str:
    if name in weights:
        return name
    if node.op_type == "Conv" and position == 2:  # the bias that a folded batch norm became
        return _free(f"{node.name}.bias", taken)
    return _free(f"{node.name}/constant", taken)


def _free(wanted: str, taken: set[str]) -> str:
    """Return `wanted`, numbered from the second time on, and add it to `taken`."""
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    taken.add(name)
    return name
