"""ONNX Runtime as a backend: `onnxruntime` on the CPU, `onnxruntime-cuda` on an NVIDIA GPU.

The two are backends of their own because their answers differ in the last bits, so that each has its own row
in the ledger.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tledge.errors import InputError, MachineError, TledgeError
from tledge.runtime import machine
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

# This optimiser recomputes biases from the scales. With float16 scales it underflows: cosine 0.947 against
# the float network instead of 0.99997 (MobileNetV2). The int8 variant is written for TensorRT, which does no
# such thing; int8-cpu brings its own bias.
DISABLED_OPTIMISERS = {"int8": ["WeightBiasQuantization"]}

NUMPY_TYPES = {"float": "float32", "double": "float64"}  # where ONNX Runtime's name is not numpy's


def cuda_missing() -> str | None:
    """Say why the CUDA provider cannot be used here, or return None if it can be asked for.

    ONNX Runtime lists the provider on machines with no driver, and then runs on the CPU without an error: the
    driver is asked first.
    """
    reason = machine.cuda().reason
    if reason:
        return reason
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return "the installed ONNX Runtime was built without CUDA (onnxruntime instead of onnxruntime-gpu)"
    return None


def open_graph(
    onnx: bytes | Path, *, backend: str, variant: str, threads: int, shape: tuple[int, ...] | None
) -> Session:
    """Open a graph with ONNX Runtime; see `tledge.runtime.open_session`."""
    check_source(onnx)
    import onnxruntime

    # The library writes its own warnings to standard error; what matters is raised as an error of ours.
    onnxruntime.set_default_logger_severity(4)
    wanted = "CUDAExecutionProvider" if backend == "onnxruntime-cuda" else "CPUExecutionProvider"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that wait within an inference spin (sleeping there costs more than the second thread gains:
    # Lite0 took 4.9 ms on two cores instead of 2.8), but not between inferences: there spinning steals a
    # whole core from decoding the next image, and gains nothing (2.8 ms either way).
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # TF32 keeps 10 bits of a float32: a variant that says fp32 must not lose them unseen.
    providers: list[Any] = [(wanted, {"use_tf32": "0"})] if wanted.startswith("CUDA") else [wanted]
    try:
        library = onnxruntime.InferenceSession(
            str(onnx) if isinstance(onnx, Path) else onnx,
            options,
            providers=providers,
            disabled_optimizers=DISABLED_OPTIMISERS.get(variant),
        )
    except Exception as error:
        raise explain(onnx, str(error), onnxruntime.__version__) from error
    if library.get_providers()[0] != wanted:
        raise MachineError(
            f"ONNX Runtime was asked for {wanted} and opened {library.get_providers()[0]}",
            hint="Install cuBLAS and cuDNN of the major version that it was built for; see `tledge doctor`.",
        )
    image, logits = check_ports(
        onnx, [_port(node) for node in library.get_inputs()], [_port(node) for node in library.get_outputs()]
    )
    names = [logits.name]

    def infer(x: Array) -> Array:
        answer: Array = library.run(names, {image.name: x})[0]
        return answer

    try:
        classes = count_classes(onnx, image, logits, infer, shape)
    except TledgeError:
        raise
    except Exception as error:
        raise explain(onnx, str(error), onnxruntime.__version__) from error
    return Session(
        backend=backend,
        variant=variant,
        device="cuda:0" if wanted.startswith("CUDA") else "cpu",
        threads=threads,
        input_name=image.name,
        input_shape=image.shape,
        input_dtype=image.dtype,
        classes=classes,
        infer=infer,
    )


def _port(node: Any) -> Port:
    tensor = re.fullmatch(r"tensor\((\w+)\)", node.type)
    dtype = NUMPY_TYPES.get(tensor[1], tensor[1]) if tensor else node.type
    dimensions = node.shape if tensor else []
    return Port(node.name, dtype, tuple(size if isinstance(size, int) else None for size in dimensions))


def explain(onnx: bytes | Path, text: str, version: str) -> TledgeError:
    """Turn what ONNX Runtime says about a graph into an error that names the graph and the next step."""
    name, path = source_name(onnx), error_path(onnx)
    reason = (
        re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text.strip()).splitlines()[0]
        if text.strip()
        else "no reason given"
    )
    if "INVALID_PROTOBUF" in text or "No graph was found" in text:
        size = onnx.stat().st_size if isinstance(onnx, Path) else len(onnx)
        return InputError(
            f"{name} is not a whole ONNX file ({size} bytes): it cannot be parsed",
            hint="It is cut short, damaged, or of another format: export or copy it again.",
            path=path,
        )
    operator = re.search(r"No Op registered for (\S+)|Fatal error: (\S+?)\(-?\d+\) is not a registered", text)
    if operator:
        unknown = operator[1] or operator[2]
        return InputError(
            f"{name} uses the operator {unknown}, which ONNX Runtime {version} does not know",
            hint="Export the network with standard ONNX operators, or a lower opset.",
            path=path,
        )
    if "bad_alloc" in text or "Failed to allocate memory" in text:
        return MachineError(
            f"there is not enough memory to open {name}: {reason}",
            hint="Free memory, or use a smaller network.",
        )
    return InputError(
        f"ONNX Runtime {version} cannot open {name}: {reason}",
        hint="Check the graph with onnx.checker.check_model, or export it again.",
        path=path,
    )
