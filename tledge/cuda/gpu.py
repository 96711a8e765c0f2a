"""One GPU: its primary context, and what is made in it.

pycuda's objects belong to the thread that retained the context, and may be used and freed only there. So a
`Gpu` belongs to the thread that opened it; a server gives it a thread of its own. It is current only inside
`with gpu.current()`: a context that is left on a thread's stack aborts the process at its end.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tledge.cuda.compiler import compile_kernels, kernels_folder
from tledge.cuda.driver import driver, explained
from tledge.cuda.memory import Buffer, Mapped, allocate, mapped, pinned
from tledge.cuda.module import Module, load
from tledge.cuda.raw import pop_context
from tledge.cuda.stream import Event, Stream
from tledge.errors import TledgeError, UsageError

NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING, to which pycuda gives no name


class Gpu:
    """A GPU, opened; close it (or leave its `with` block) in the same thread."""

    def __init__(self, index: int = 0) -> None:
        """Retain the primary context of GPU `index`: the one that torch, ONNX Runtime and TensorRT use.

        Raises:
            MachineError: no pycuda, no driver, no GPU.
            UsageError: no GPU has this number.
        """
        module = driver()
        count = module.Device.count()
        if not 0 <= index < count:
            raise UsageError(f"there is no GPU {index}", hint=f"There are {count}, numbered from 0.")
        with explained(f"opening GPU {index}"):
            self._device = module.Device(index)
            self._context: Any = self._device.retain_primary_context()
        self.handle = int(self._context.handle)  # the CUcontext, which any thread may make its own
        self._thread = threading.get_ident()
        self._depth = 0
        self.index = index
        self.name: str = self._device.name()
        major, minor = self._device.compute_capability()
        self.architecture = f"sm{major}{minor}"
        self.cuda = int(module.get_driver_version()) // 1000  # the driver's major release of CUDA

    def __enter__(self) -> Gpu:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the GPU's context the thread's current one while the block runs; blocks may be nested.

        Raises:
            TledgeError: the GPU is closed, or was opened by another thread.
        """
        if self._context is None:
            raise TledgeError(f"GPU {self.index} is closed")
        if not self.is_mine:
            raise TledgeError(
                f"GPU {self.index} was opened by another thread", hint="Open it in the thread that uses it."
            )
        if self._depth == 0:
            self._context.push()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                driver().Context.pop()

    def close(self) -> None:
        """Release the context. Free what was made in it before: pycuda cannot free it afterwards."""
        if self._context is None:
            return
        with self.current():
            pass  # the thread is checked
        self._context.push()
        self._context.detach()
        # pycuda 2026.1 releases a primary context and leaves it on the thread's stack.
        pop_context(self.handle)
        self._context = None

    @property
    def is_mine(self) -> bool:
        """Tell whether this thread opened it, so that it may free what was made in it."""
        return threading.get_ident() == self._thread

    @property
    def shares_memory(self) -> bool:
        """Tell whether the GPU has no memory of its own (a Jetson): mapped memory then costs no copy."""
        return bool(self._device.get_attribute(driver().device_attribute.INTEGRATED))

    def memory(self) -> tuple[int, int]:
        """Return (free, total) memory in bytes."""
        with self.current(), explained("asking for free memory"):
            free, total = driver().mem_get_info()
        return int(free), int(total)

    def stream(self) -> Stream:
        """Return a new stream that does not wait for the legacy default stream."""
        with self.current(), explained("making a stream"):
            return Stream(driver().Stream(NON_BLOCKING))

    def event(self) -> Event:
        """Return a new event, which keeps time."""
        with self.current(), explained("making an event"):
            return Event(driver().Event())

    def allocate(self, size: int) -> Buffer:
        """Return `size` bytes of the GPU's memory, not initialised."""
        with self.current():
            return allocate(size)

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Return an array in page-locked memory of the host, not initialised: copies run beside the CPU."""
        with self.current():
            return pinned(shape, dtype)

    def mapped(self, shape: tuple[int, ...], dtype: Any) -> Mapped:
        """Return an array of the host that the GPU reads and writes too."""
        with self.current():
            return mapped(shape, dtype)

    def kernels(self, name: str) -> Module:
        """Return the kernels of a source of ours, such as "topk.cu", compiled for this GPU once and kept.

        Raises:
            MachineError: there is no compiler that this GPU's driver takes the kernels of.
        """
        folder = kernels_folder()
        image = compile_kernels(folder / name, self.architecture, include=[folder], cuda=self.cuda)
        return self.load(image)

    def load(self, image: bytes) -> Module:
        """Return the kernels of `image`: a cubin, a fatbin, or PTX."""
        with self.current():
            return load(image)
