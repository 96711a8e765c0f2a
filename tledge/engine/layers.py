"""Which layer of an engine runs in which type: the proof that an INT8 network is one.

Read from TensorRT's own EngineInspector where a GPU can open the engine, and from the builder's verbose log
where none can (TensorRT for RTX prints the same list there). Types are TensorRT's words: Float, Half, Int8.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from tledge.runtime import machine
from tledge.runtime.tensorrt_log import LAYERS

LINE = re.compile(
    r"Name: (?P<name>.*), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*)\], "
    r"Constants: \[(?P<weights>.*)\], Outputs: \[(?P<outputs>.*)\], "
    r"TacticName: (?P<tactic>.*), StreamId: \d+, Metadata:(?P<metadata>.*)\Z"
)
TENSOR_TYPE = re.compile(r"Datatype: (\w+)")
# TensorRT sets the separators of ASCII between the nodes of a layer.
ONNX_NODE = re.compile(r"\[ONNX Layer: (.*?)\](?=[\x1e\x1f\[]|$)")
# EngineInspector of TensorRT 10 says the type within the format: "Channel major FP16 format where ...".
FORMAT_TYPE = re.compile(r"\b(FP32|FP16|BF16|FP8|INT8|INT4|INT32|INT64|UINT8|BOOL)\b", re.I)
TYPE_NAMES = {"FP32": "Float", "FP16": "Half", "INT8": "Int8", "INT32": "Int32", "INT64": "Int64"}


@dataclass(frozen=True)
class Layer:
    """One layer of an engine: the types it takes and gives, and the ONNX nodes that it does the work of."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    weights: tuple[str, ...]
    outputs: tuple[str, ...]
    tactic: str
    nodes: tuple[str, ...]

    @property
    def is_int8(self) -> bool:
        """Tell whether it multiplies INT8 by INT8: data by weights, or data by data.

        A generated kernel (kgen) that only adds or scales names the convolution before it too, and may take
        two INT8 tensors: it counts only with INT8 weights of its own.
        """
        if "Int8" in self.weights:
            return "Int8" in self.inputs
        return self.kind != "kgen" and self.inputs.count("Int8") >= 2

    @property
    def is_reformat(self) -> bool:
        """Tell whether it only copies a tensor into another layout or type."""
        return "reformat" in self.kind.lower() or "reformat" in self.name.lower()


@dataclass(frozen=True)
class Report:
    """The layers of an engine, and what they were meant to be.

    `source` is "inspector" or "log"; sizes are in bytes, None where TensorRT did not say; `wanted_int8` are
    the ONNX nodes that are to run in INT8.
    """

    source: str
    layers: tuple[Layer, ...]
    activation_bytes: int | None
    weight_bytes: int | None
    wanted_int8: tuple[str, ...]

    @property
    def not_int8(self) -> tuple[str, ...]:
        """Return the ONNX nodes that should run in INT8 and do not, in the order of the graph."""
        done: set[str] = set()
        for layer in self.layers:
            if layer.is_int8:
                # Without metadata a fused layer still has the names of its parts: "conv1 + relu1".
                done.update(layer.nodes, layer.name.split(" + "))
        return tuple(node for node in self.wanted_int8 if node not in done)

    @property
    def reformats(self) -> int:
        """Return the number of layers that only copy."""
        return sum(layer.is_reformat for layer in self.layers)

    def kinds(self) -> dict[str, int]:
        """Return how many layers there are of each kind and type: {"correlation Int8 -> Float": 20}."""
        names = Counter(
            f"{layer.kind} {_joined(layer.inputs)} -> {_joined(layer.outputs)}" for layer in self.layers
        )
        return dict(sorted(names.items(), key=lambda item: (-item[1], item[0])))

    def as_dict(self) -> dict[str, Any]:
        """Return the report as it is kept in the engine's manifest."""
        return {
            "source": self.source,
            "layers": len(self.layers),
            "kinds": self.kinds(),
            "reformats": self.reformats,
            "activation_bytes": self.activation_bytes,
            "weight_bytes": self.weight_bytes,
            "int8_wanted": len(self.wanted_int8),
            "not_int8": list(self.not_int8),
        }


def from_log(text: str) -> tuple[Layer, ...]:
    """Return the layers that a message of the builder's log lists, one a line under "Layers:".

    Lines that are not of that form are no layers; a text without the list gives none.
    """
    _, _, listed = text.partition(LAYERS)
    matches = (LINE.match(line) for line in listed.splitlines())
    return tuple(
        Layer(
            name=found["name"],
            kind=found["kind"],
            inputs=_types(found["inputs"]),
            weights=_types(found["weights"]),
            outputs=_types(found["outputs"]),
            tactic=found["tactic"],
            nodes=tuple(ONNX_NODE.findall(found["metadata"])),
        )
        for found in matches
        if found
    )


def from_inspector(text: str) -> tuple[Layer, ...]:
    """Return the layers of EngineInspector's JSON, in the keys of TensorRT 10 or of 11.

    Engines that were not built with detailed verbosity list names only: these are layers of no known type.
    """
    layers = []
    for entry in json.loads(text)["Layers"]:
        if isinstance(entry, str):
            layers.append(Layer(entry, "", (), (), (), "", ()))
            continue
        weights = [entry["Weights"]["Type"]] if isinstance(entry.get("Weights"), dict) else []
        weights += [_tensor_type(tensor) for tensor in entry.get("Constants", [])]
        layers.append(
            Layer(
                name=str(entry.get("Name", "")),
                kind=str(entry.get("LayerType", "")),
                inputs=tuple(_tensor_type(tensor) for tensor in entry.get("Inputs", [])),
                weights=tuple(weights),
                outputs=tuple(_tensor_type(tensor) for tensor in entry.get("Outputs", [])),
                tactic=str(entry.get("TacticName", "")),
                nodes=tuple(ONNX_NODE.findall(str(entry.get("Metadata", "")))),
            )
        )
    return tuple(layers)


def machine_without_gpu() -> bool:
    """Tell whether engines cannot be opened here, for want of a driver or a GPU."""
    return bool(machine.cuda().reason)


def _types(tensors: str) -> tuple[str, ...]:
    return tuple(TENSOR_TYPE.findall(tensors))


def _tensor_type(tensor: dict[str, Any]) -> str:
    if "Datatype" in tensor:
        return str(tensor["Datatype"])
    found = FORMAT_TYPE.search(str(tensor.get("Format/Datatype", "")))
    return TYPE_NAMES.get(found[1].upper(), found[1].capitalize()) if found else ""


def _joined(types: tuple[str, ...]) -> str:
    return "+".join(sorted(set(types))) or "-"
