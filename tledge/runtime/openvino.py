"""OpenVINO as a backend: `openvino` in float32, `openvino-bf16` where bfloat16 is asked for by name.

OpenVINO's own default on recent x86 is bfloat16 arithmetic for a float32 graph, which changes answers unseen;
here the default is what the graph says. Graphs with Q/DQ run in INT8 under either name.
"""

from __future__ import annotations

import queue
import re
import sys
import threading
from collections.abc import Callable
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

NUMPY_TYPES = {
    "f32": "float32",
    "f16": "float16",
    "f64": "float64",
    "u8": "uint8",
    "i8": "int8",
    "i32": "int32",
    "i64": "int64",
}
PRECISIONS = {"openvino": "f32", "openvino-bf16": "bf16"}


class Requests:
    """A compiled graph that several threads may run at once.

    A request of OpenVINO is not safe to share between threads, so that each call borrows one; as many exist
    as were ever needed at once. The graph is compiled when it is first run.
    """

    def __init__(self, compile_graph: Callable[[], Any]) -> None:
        self._compile = compile_graph
        self._compiled: Any = None
        self._lock = threading.Lock()
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue()

    def run(self, x: Array) -> Array:
        """Return the graph's one output for the input tensor `x`, as a fresh array."""
        try:
            request = self._idle.get_nowait()
        except queue.Empty:
            request = self._new_request()
        try:
            request.infer({0: x}, share_inputs=True)
            return np.array(request.get_output_tensor(0).data)
        finally:
            self._idle.put(request)

    def _new_request(self) -> Any:
        with self._lock:
            if self._compiled is None:
                self._compiled = self._compile()
        return self._compiled.create_infer_request()


def _library() -> Any:
    """Return OpenVINO, imported without its telemetry.

    With the package openvino-telemetry, which comes with it, `import openvino` sends the fact to Google
    Analytics, from a forked copy of the process that it kills after three seconds. Nothing of tledge's is to
    call anybody unasked; without that package OpenVINO uses a stub. Who imported it before is left alone.
    """
    unknown = "openvino_telemetry" not in sys.modules
    if unknown:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if unknown:
            del sys.modules["openvino_telemetry"]
    return openvino


def open_graph(
    onnx: bytes | Path, *, backend: str, variant: str, threads: int, shape: tuple[int, ...] | None
) -> Session:
    """Open a graph with OpenVINO on the CPU; see `tledge.runtime.open_session`."""
    check_source(onnx)
    openvino = _library()
    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": PRECISIONS[backend],
        "INFERENCE_NUM_THREADS": threads,
        # A pinned thread cannot leave a core that something else is using: with a busy loop on one of two
        # cores Lite0's P99 was 15.5 ms with pinning and 5.7 ms without; on an idle machine both were within
        # 0.5 ms.
        "ENABLE_CPU_PINNING": False,
    }
    try:
        model = core.read_model(onnx)
        image, logits = check_ports(onnx, [_port(p) for p in model.inputs], [_port(p) for p in model.outputs])
        many = Requests(lambda: core.compile_model(model, "CPU", settings))
        single = _one_image(model, image, shape)
        one = many if single is None else Requests(lambda: core.compile_model(single, "CPU", settings))

        def infer(x: Array) -> Array:
            return one.run(x) if len(x) == 1 else many.run(x)

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


def _one_image(model: Any, image: Port, shape: tuple[int, ...] | None) -> Any | None:
    """Return the graph for exactly one image, or None where its batch is fixed or its image size unknown.

    Fixed shapes are 6 to 10 % faster than a dynamic batch of one (Lite0), and one image is the usual batch.
    """
    size = image.shape[1:] if None not in image.shape[1:] else shape
    if image.shape[0] is not None or size is None:
        return None
    fixed = model.clone()
    fixed.reshape([1, *size])
    return fixed


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
            hint="It is cut short, damaged, or of another format: export or copy it again.",
            path=path,
        )
    operator = re.search(r"No conversion rule found for operations:\s*(\S+)", text)
    if operator:
        return InputError(
            f"{name} uses the operator {operator[1].rstrip(',')}, which OpenVINO {short} does not know",
            hint="Export the network with standard ONNX operators, or use --backend onnxruntime.",
            path=path,
        )
    # The first lines say where in OpenVINO's own sources the error was raised.
    lines = [s for s in map(str.strip, text.splitlines()) if s and not re.match("Exception from|Check '", s)]
    return InputError(
        f"OpenVINO {short} cannot open {name}: {lines[0] if lines else text.strip()}",
        hint="Check the graph with onnx.checker.check_model, or use --backend onnxruntime.",
        path=path,
    )
