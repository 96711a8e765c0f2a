"""CUDA graphs: what a stream was given, recorded once and launched as one.

However many copies and kernels it holds, a graph costs the CPU one call. pycuda 2026.1 knows no graphs, so
these are the driver's own functions, called by ctypes with the handles of pycuda's streams.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tledge.cuda.memory import Array, Buffer
from tledge.cuda.raw import call, library
from tledge.cuda.stream import Stream

if TYPE_CHECKING:
    from tledge.cuda.gpu import Gpu

THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may go on using the GPU


class Graph:
    """A recorded piece of work. The memory that it reads and writes must outlive it."""

    def __init__(self) -> None:
        self._executable = ctypes.c_void_p()

    def launch(self, stream: Stream) -> None:
        """Give the whole of it to the stream."""
        call("cuGraphLaunch", self._executable, ctypes.c_void_p(stream.handle))

    def run(self, gpu: Gpu, stream: Stream) -> None:
        """Launch it and wait until it is done, from any thread: only the driver's own handles are used.

        Raises:
            MachineError: the GPU's context is lost.
        """
        raw = ctypes.c_void_p(stream.handle)
        with _current_here(gpu):
            call("cuGraphLaunch", self._executable, raw)
            call("cuStreamSynchronize", raw)

    def free(self) -> None:
        """Give its resources back; once more does nothing."""
        if self._executable:
            call("cuGraphExecDestroy", self._executable)
            self._executable = ctypes.c_void_p()


def download(gpu: Gpu, stream: Stream, array: Array, source: Buffer) -> None:
    """Fill the contiguous page-locked `array` from the start of `source`, and wait, from any thread.

    Raises:
        MachineError: the GPU's context is lost.
    """
    raw = ctypes.c_void_p(stream.handle)
    place, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
    with _current_here(gpu):
        call("cuMemcpyDtoHAsync_v2", place, ctypes.c_ulonglong(source.address), size, raw)
        call("cuStreamSynchronize", raw)


@contextmanager
def _current_here(gpu: Gpu) -> Iterator[None]:
    """Make the GPU's context current in this thread, which need not be the one that opened it."""
    call("cuCtxPushCurrent_v2", ctypes.c_void_p(gpu.handle))
    try:
        yield
    finally:
        # A lost context may refuse this too: the error of the work is the news.
        library().cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))


@contextmanager
def capture(stream: Stream) -> Iterator[Graph]:
    """Record what the stream is given in the block, without running it, into the graph that is returned.

    Nothing in the block may wait for the GPU or allocate memory. If the block fails, the stream is as it was.

    Raises:
        TledgeError: the driver refuses, because the block did what cannot be recorded.
    """
    graph, handle = Graph(), ctypes.c_void_p()
    raw = ctypes.c_void_p(stream.handle)
    call("cuStreamBeginCapture_v2", raw, ctypes.c_int(THREAD_LOCAL))
    try:
        yield graph
    except BaseException:
        # The recording is dropped, whatever the driver thinks of it: the block's own error is the news.
        library().cuStreamEndCapture(raw, ctypes.byref(handle))
        if handle:
            library().cuGraphDestroy(handle)
        raise
    call("cuStreamEndCapture", raw, ctypes.byref(handle))
    try:
        call("cuGraphInstantiateWithFlags", ctypes.byref(graph._executable), handle, ctypes.c_ulonglong(0))
    finally:
        call("cuGraphDestroy", handle)
