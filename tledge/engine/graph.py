"""What the builder must know of an ONNX file before TensorRT sees it, read from the bytes themselves.

A board has no `onnx` package, and TensorRT's parser takes an empty file, or one that is no ONNX at all, for a
network without layers, and any opset for one that it knows. This reader walks the protocol buffer by its wire
format (https://protobuf.dev/programming-guides/encoding/) and takes the few fields it needs: versions, and
the nodes' names, operators and tensors (onnx/onnx.proto3). Weights are skipped, not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tledge.errors import InputError
from tledge.runtime.tensorrt_library import OLDEST_OPSET, Library

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# Operators with INT8 kernels whose speed decides a network's; everything else follows its neighbours.
HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# What may stand between a DequantizeLinear and the operator that it feeds without changing values.
TRANSPARENT = ("Cast", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")


@dataclass(frozen=True)
class Node:
    """One node of the graph: what it is called, what it does, the tensors it takes and gives."""

    name: str
    operator: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """An ONNX file without its weights: IR version, opset of the standard domain, nodes in their order."""

    ir_version: int
    opset: int
    nodes: tuple[Node, ...]

    def int8_nodes(self) -> tuple[str, ...]:
        """Return the names of the nodes that are to run in INT8.

        These are the convolutions and matrix products whose data and weights both come out of a
        DequantizeLinear, be it through casts and reshapes: TensorRT fuses the pair into the operator.
        """
        maker = {tensor: node for node in self.nodes for tensor in node.outputs}

        def dequantized(tensor: str) -> bool:
            node = maker.get(tensor)
            while node is not None and node.operator in TRANSPARENT and node.inputs:
                node = maker.get(node.inputs[0])
            return node is not None and node.operator == "DequantizeLinear"

        return tuple(
            node.name
            for node in self.nodes
            if node.operator in HEAVY and len(node.inputs) >= 2 and all(map(dequantized, node.inputs[:2]))
        )


def read_graph(data: bytes, path: Path) -> Graph:
    """Return the graph in the ONNX file `data`; `path` is named in messages.

    Raises:
        InputError: the file is empty, cut off, or no ONNX graph.
    """
    ir_version, opset, graph = 0, 0, None
    try:
        for number, value in _fields(memoryview(data)):
            if number == 1 and isinstance(value, int):
                ir_version = value
            elif number == 7 and isinstance(value, memoryview):
                graph = value
            elif number == 8 and isinstance(value, memoryview):
                domain, version = _opset(value)
                opset = version if domain in ("", "ai.onnx") else opset
        nodes = () if graph is None else _nodes(graph)
    except ValueError as error:
        raise InputError(
            f"{path} is not a whole ONNX file ({len(data)} bytes): {error}",
            hint="It is cut short, damaged, or of another format: export or copy it again.",
            path=path,
        ) from error
    if not nodes:
        raise InputError(
            f"{path} holds no ONNX graph ({len(data)} bytes)", hint="Export it again.", path=path
        )
    return Graph(ir_version, opset, nodes)


def check_versions(graph: Graph, library: Library, path: Path) -> None:
    """Raise InputError if the file's opset or IR version is not one that `library` is documented to read."""
    opset, ir_version = library.newest
    if not OLDEST_OPSET <= graph.opset <= opset:
        raise InputError(
            f"{path} has opset {graph.opset}, and {library.title} reads {OLDEST_OPSET} to {opset}",
            hint=f"Export the network with opset 18, or convert it: onnx.version_converter, to {opset}.",
            path=path,
        )
    if graph.ir_version > ir_version:
        raise InputError(
            f"{path} has IR version {graph.ir_version}, and {library.title} reads up to {ir_version}",
            hint=f"Save it with `model.ir_version = {ir_version}`, or export it with an older package onnx.",
            path=path,
        )


def _nodes(graph: memoryview) -> tuple[Node, ...]:
    nodes = []
    for number, value in _fields(graph):
        if number == 1 and isinstance(value, memoryview):
            text: dict[int, list[str]] = {1: [], 2: [], 3: [], 4: [], 7: []}
            for field, part in _fields(value):
                if field in text and isinstance(part, memoryview):
                    text[field].append(bytes(part).decode("utf-8"))
            inputs, outputs = tuple(text[1]), tuple(text[2])
            # A node without a name is called after its first output, as TensorRT's parser does.
            name = "".join(text[3][-1:]) or f"node_of_{''.join(outputs[:1])}"
            nodes.append(Node(name, "".join(text[4][-1:]), "".join(text[7][-1:]), inputs, outputs))
    return tuple(nodes)


def _opset(value: memoryview) -> tuple[str, int]:
    domain, version = "", 0
    for number, part in _fields(value):
        if number == 1 and isinstance(part, memoryview):
            domain = bytes(part).decode("utf-8")
        elif number == 2 and isinstance(part, int):
            version = part
    return domain, version


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Give each field of a message as (number, integer or bytes); ValueError if it is cut off or is none."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise ValueError(f"no field has the number 0 (byte {position - 1})")
        if kind == VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if kind == BYTES:
            size, position = _varint(data, position)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"unknown wire type {kind} (byte {position - 1})")
        if position + size > len(data):
            raise ValueError(f"{position + size - len(data)} bytes are missing at its end")
        yield number, data[position : position + size]
        position += size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise ValueError("it ends within a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(f"a number of more than ten bytes (byte {position})")
