"""OpenVINO as a backend: `openvino` in float32, `openvino-bf16` where bfloat16 is asked for by name.

OpenVINO's own default on recent x86 is bfloat16 arithmetic for a float32 graph, which changes answers unseen;
here the default is what the graph says. Graphs with Q/DQ run in INT8 under either name.
"""

from __future__ import annotations

import queue
import re
from pathlib import Path
from typing import Any

import numpy as np

from tledge.errors import InputError, TledgeError
from tledge.runtime.session import (
    Array,
    Port,
    Session,
    check_ports,
    check_source,
    count_classes,
    error_path,
    source_name,
)

NUMPY_TYPES = {"f32": "float32", "f16": "float16", "f64": "float64", "u8": "uint8", "i8": "int8"}
PRECISIONS = {"openvino": "f32", "openvino-bf16": "bf16"}


def open_graph(
    onnx: bytes | Path, *, backend: str, variant: str, threads: int, shape: tuple[int, ...] | None
) -> Session:
    """Open a graph with OpenVINO on the CPU; see `tledge.runtime.open_session`."""
    check_source(onnx)
    import openvino

    core = openvino.Core()
    try:
        model = core.read_model(onnx)
        image, logits = check_ports(onnx, [_port(p) for p in model.inputs], [_port(p) for p in model.outputs])
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": PRECISIONS[backend],
                "INFERENCE_NUM_THREADS": threads,
            },
        )
    except RuntimeError as error:
        raise explain(onnx, str(error), openvino.__version__) from error

    # A request is not safe to share between threads, so each call borrows one; as many exist as were ever
    # needed at once.
    idle: queue.LifoQueue[Any] = queue.LifoQueue()

    def infer(x: Array) -> Array:
        try:
            request = idle.get_nowait()
        except queue.Empty:
            request = compiled.create_infer_request()
        try:
            request.infer({0: x}, share_inputs=True)
            return np.array(request.get_output_tensor(0).data)
        finally:
            idle.put(request)

    try:
        classes = count_classes(onnx, image, logits, infer, shape)
    except RuntimeError as error:
        raise explain(onnx, str(error), openvino.__version__) from error
    return Session(
        backend=backend,
        variant=variant,
        device="cpu",
        threads=threads,
        input_name=image.name,
        input_shape=image.shape,
        input_dtype=image.dtype,
        classes=classes,
        infer=infer,
    )


def _port(port: Any) -> Port:
    name = port.get_element_type().get_type_name()
    shape = port.get_partial_shape()
    sizes = () if shape.rank.is_dynamic else tuple(s.get_length() if s.is_static else None for s in shape)
    return Port(port.get_any_name(), NUMPY_TYPES.get(name, name), sizes)


def explain(onnx: bytes | Path, text: str, version: str) -> TledgeError:
    """Turn what OpenVINO says about a graph into an error of ours that names the graph and the next step."""
    name, path = source_name(onnx), error_path(onnx)
    short = version.split("-", maxsplit=1)[0]
    if "Unable to read the model" in text:
        size = onnx.stat().st_size if isinstance(onnx, Path) else len(onnx)
        return InputError(
            f"{name} is not a whole ONNX file ({size} bytes): OpenVINO {short} cannot read it",
            hint="it is cut short, damaged, or of another format: export or copy it again",
            path=path,
        )
    operator = re.search(r"does not support the following ONNX operations:\s*(\S+)", text)
    if operator:
        return InputError(
            f"{name} uses the operator {operator[1].rstrip(',')}, which OpenVINO {short} does not know",
            hint="export the network with standard ONNX operators, or use --backend onnxruntime",
            path=path,
        )
    lines = [
        line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Exception from")
    ]
    return InputError(
        f"OpenVINO {short} cannot open {name}: {lines[0] if lines else text.strip()}",
        hint="check the graph with onnx.checker.check_model, or use --backend onnxruntime",
        path=path,
    )
