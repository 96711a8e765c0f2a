"""The backends: what they are called, what they need, and which of them this machine can run.

A name says all that changes an answer: a backend that computes in another precision or on another device is
another backend, with a row of its own in the ledger. That is why nothing can fall back in silence.
"""

from __future__ import annotations

import difflib
import importlib.util
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from tledge.bundle import Bundle
from tledge.errors import MachineError, UsageError
from tledge.runtime import machine
from tledge.runtime.session import Session


@dataclass(frozen=True)
class Backend:
    """One way to run a graph: the library it needs, the extra that installs it, what it does in one line."""

    name: str
    library: str
    extra: str
    does: str


BACKENDS = {
    backend.name: backend
    for backend in (
        Backend("onnxruntime", "onnxruntime", "onnx", "ONNX Runtime on the CPU"),
        Backend(
            "onnxruntime-cuda", "onnxruntime", "onnx", "ONNX Runtime on an NVIDIA GPU, float32 without TF32"
        ),
        Backend("openvino", "openvino", "openvino", "OpenVINO on the CPU, float32 as the graph says"),
        Backend(
            "openvino-bf16",
            "openvino",
            "openvino",
            "OpenVINO on the CPU, float32 layers computed in bfloat16",
        ),
        Backend("tensorrt", "tensorrt", "tensorrt", "engines of TensorRT, built on this GPU"),
        Backend("tensorrt-rtx", "tensorrt_rtx", "rtx", "engines of TensorRT for RTX, on an RTX GPU"),
    )
}

ENGINES = ("tensorrt", "tensorrt-rtx")  # these run engines of a bundle, and open no graph


def find(name: str) -> Backend:
    """Return the backend of this name; UsageError, with the nearest name, if there is none."""
    if name in BACKENDS:
        return BACKENDS[name]
    near = difflib.get_close_matches(name, BACKENDS, n=1, cutoff=0.4)
    raise UsageError(
        f"there is no backend {name!r}",
        hint=(f"Did you mean {near[0]}? " if near else "") + f"The backends are {', '.join(BACKENDS)}.",
    )


def missing(name: str) -> str | None:
    """Say why this machine cannot run the backend, or return None if it can.

    No library is imported for that, except for `onnxruntime-cuda` where there is a GPU.
    """
    backend = find(name)
    if importlib.util.find_spec(backend.library) is None:
        return f'the package {backend.library} is not installed: pip install "tledge[{backend.extra}]"'
    if name in ENGINES:
        if importlib.util.find_spec("pycuda") is None and not machine.cuda().reason:
            return "pycuda is not installed: pip install pycuda, with CUDA's headers and a compiler there"
        return machine.cuda().reason or None
    if name == "onnxruntime-cuda":
        from tledge.runtime.onnxruntime import cuda_missing

        return cuda_missing()
    if name == "openvino-bf16" and not machine.cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"}:
        return "this CPU has no bfloat16 arithmetic"
    return None


def available() -> dict[str, str | None]:
    """Return each backend's name, with None if it can run on this machine, else the reason why it cannot."""
    return {name: missing(name) for name in BACKENDS}


def check_available(name: str) -> None:
    """Raise MachineError, with the reason, if this machine cannot run the backend."""
    reason = missing(name)
    if reason is not None:
        raise MachineError(
            f"the backend {name} cannot run here: {reason}", hint="`tledge doctor` lists what can run."
        )


def open_variant(bundle: Bundle, backend: str, variant: str, *, threads: int | None = None) -> Session:
    """Open a variant of a bundle: its graph, or for TensorRT the engine that was built of it.

    Raises what `open_session` does, and BundleError: the bundle has no such variant, or no engine of it that
    fits this machine.
    """
    if backend not in ENGINES:
        graph = bundle.file(f"{variant}.onnx")
        return open_session(graph, backend, variant=variant, threads=threads, shape=bundle.spec.shape)
    check_available(backend)
    from tledge.runtime.tensorrt import open_engine

    return open_engine(bundle, backend, variant, threads=threads or machine.physical_cores())


def open_session(
    onnx: bytes | Path,
    backend: str = "onnxruntime",
    *,
    variant: str = "fp32",
    threads: int | None = None,
    shape: tuple[int, ...] | None = None,
) -> Session:
    """Open an ONNX graph (its bytes or its path) with a backend, and run it once to warm it up.

    `variant` is what the graph is to the bundle (it decides which optimisations are safe); `threads` how many
    threads one inference uses (default: the physical cores that this process may use); `shape` the input's
    shape without the batch, needed only for the warm-up of graphs whose height and width are dynamic. Raises
    UsageError (unknown backend, threads below 1), MachineError (library or device is missing), InputError
    (not a graph of an image classifier).
    """
    chosen = find(backend)
    if threads is not None and threads < 1:
        raise UsageError(
            f"threads is {threads}", hint="Give 1 or more, or leave it out for the number of physical cores."
        )
    if backend in ENGINES:
        raise UsageError(
            f"the backend {backend} runs engines, not graphs", hint="`tledge build-engine` makes one."
        )
    check_available(backend)
    module = import_module(f"tledge.runtime.{chosen.library}")
    session: Session = module.open_graph(
        onnx, backend=backend, variant=variant, threads=threads or machine.physical_cores(), shape=shape
    )
    return session
