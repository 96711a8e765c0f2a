"""An engine for the pipeline that is ONNX Runtime: a host function in the stream, where TensorRT would be.

The stand-in's device memory is the host's, so that the function reads and writes where it is told to.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from math import prod

import numpy as np

from tledge.cuda.raw import call
from tledge.runtime import open_session
from tledge.runtime.session import Port

STANDIN = ctypes.CDLL("libcuda.so.1")
FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class HostEngine:
    """`tledge.runtime.lane.Engine` of an ONNX graph."""

    name = "fp32@stand-in"
    scratch = 4096

    def __init__(self, onnx: bytes, batch: tuple[int, int, int], logits: str = "float32") -> None:
        self.session = open_session(onnx, threads=1)
        shape = self.session.input_shape
        self.image = Port(self.session.input_name, self.session.input_dtype, shape)
        self.logits = Port("logits", logits, (None, self.session.classes))
        self.batch = batch
        self.runs: list[int] = []
        self.seconds = 0.0  # an inference takes more than that
        self.freed = 0  # how often the GPU was open when the engine was freed

    def free(self) -> None:
        self.freed = STANDIN.standin_primary_references()

    def context(self, batch: int, images: int, logits: int, scratch: int, stream: int) -> HostContext:
        assert images % 256 == logits % 256 == scratch % 256 == 0
        assert stream
        dtype = np.dtype(self.image.dtype)
        x = _at(images, (batch, *self.image.shape[1:]), dtype)
        y = _at(logits, (batch, *self.logits.shape[1:]), np.dtype(self.logits.dtype))
        work = _at(scratch, (self.scratch,), np.dtype(np.uint8))

        def run(_: object) -> None:
            self.runs.append(batch)
            time.sleep(self.seconds)
            work[:] = batch  # what another lane computes in shall not be this one's
            y[:] = self.session.run(x)

        return HostContext(run)


class HostContext:
    def __init__(self, run: Callable[[object], None]) -> None:
        self.function = FUNCTION(run)  # the stream holds its address only

    def enqueue(self, stream: int) -> None:
        call("cuLaunchHostFunc", ctypes.c_void_p(stream), self.function, ctypes.c_void_p())


def _at(address: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    memory = (ctypes.c_uint8 * (prod(shape) * dtype.itemsize)).from_address(address)
    return np.frombuffer(memory, dtype).reshape(shape)
