"""pycuda, loaded late, and its errors in words that tell what to do.

`pycuda.autoinit` is never used: it makes a context of its own, and what torch, ONNX Runtime and TensorRT
allocate in the primary context would not be visible in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from tledge.errors import MachineError, TledgeError

INSTALL = (
    "It is built on the machine, against its CUDA: install CUDA's headers and a C++ compiler, then "
    'pip install "tledge[jetson]" (docs/jetson.md).'
)
# After these every further call fails too, until the process ends.
LOST = (
    "illegal memory access",
    "illegal instruction",
    "misaligned address",
    "invalid program counter",
    "hardware stack error",
    "unspecified launch failure",
    "launch timed out",
    "uncorrectable",
    "device-side",
)


@cache
def driver() -> Any:
    """Return `pycuda.driver`, initialised.

    Raises:
        MachineError: pycuda or the driver is missing, or does not start.
    """
    try:
        import pycuda.driver as module
    except ModuleNotFoundError as error:
        raise MachineError(f"pycuda is not installed (no module {error.name})", hint=INSTALL) from error
    except ImportError as error:
        if "libcuda" in str(error):
            hint = "Install NVIDIA's driver; in a container, start it with --runtime nvidia or --gpus all."
            raise MachineError(f"there is no NVIDIA driver on this machine: {error}", hint=hint) from error
        hint = f"It was built for another CUDA: uninstall it and install it again. {INSTALL}"
        raise MachineError(f"pycuda is installed and cannot be loaded: {error}", hint=hint) from error
    try:
        module.init()
        count = module.Device.count()
    except module.Error as error:
        hint = "`nvidia-smi` (on a Jetson, `tegrastats`) must work first; a container needs --runtime nvidia."
        raise MachineError(f"the NVIDIA driver does not start: {error}", hint=hint) from error
    if count == 0:
        raise MachineError("the NVIDIA driver finds no GPU", hint="Is CUDA_VISIBLE_DEVICES set to hide it?")
    return module


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn pycuda's errors in the block into ours; `doing` says what was tried: "allocating 4 MiB"."""
    module = driver()
    try:
        yield
    except (module.MemoryError, module.Error) as error:
        raise translate(doing, str(error)) from error


def translate(doing: str, text: str) -> TledgeError:
    """Return the error for what the driver answered while `doing` something."""
    if any(words in text for words in LOST):
        return MachineError(
            f"the GPU's context is lost: {doing}: {text}",
            hint="Nothing on the GPU can be used any more: start the process again. If it comes back, look "
            "for Xid errors in `dmesg`.",
        )
    if "out of memory" in text:
        hint = "Take a smaller batch, or close what else uses the GPU (on a Jetson: what else uses memory)."
        return MachineError(f"the GPU is out of memory: {doing}", hint=hint)
    return TledgeError(f"{doing}: {text}", hint="Run it again with -vv and report the traceback.")
