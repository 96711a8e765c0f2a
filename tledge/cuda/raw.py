"""Functions of the driver that pycuda 2026.1 has not, called by ctypes on the same library and handles."""

from __future__ import annotations

import ctypes
from functools import cache

from tledge.cuda.driver import driver, translate
from tledge.errors import MachineError


@cache
def library() -> ctypes.CDLL:
    """Return libcuda, which pycuda has loaded and initialised by then."""
    driver()
    return ctypes.CDLL("libcuda.so.1")


def call(name: str, *arguments: object) -> None:
    """Call the function `name`; TledgeError or MachineError, in the driver's words, if it fails.

    Raises:
        MachineError: the driver is older than the function.
    """
    function = getattr(library(), name, None)
    if function is None:
        raise MachineError(
            f"the NVIDIA driver has no {name}: it is older than CUDA 12",
            hint="Update the driver, on a Jetson to JetPack 6 or newer.",
        )
    code = function(*arguments)
    if code != 0:
        text = ctypes.c_char_p()
        library().cuGetErrorString(code, ctypes.byref(text))
        said = text.value.decode() if text.value else "unknown error"
        raise translate(name, f"{said} ({code})")


def pop_context(handle: int) -> None:
    """Take the context `handle` off the thread's stack, where it is at the top or just below it."""
    top = ctypes.c_void_p()
    call("cuCtxPopCurrent_v2", ctypes.byref(top))
    if top.value != handle:
        call("cuCtxPopCurrent_v2", None)
        call("cuCtxPushCurrent_v2", top)
