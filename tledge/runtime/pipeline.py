"""The road over a GPU: upload, engine and download recorded as one CUDA graph for each batch size.

Everything is allocated and recorded when a pipeline is made; a frame costs one graph launch. A lane is what
one frame needs: a stream, memory, and contexts of the engine. With two lanes a frame is uploaded while the
one before it is computed. A lane is lent to one thread at a time; any thread may borrow one, since launching
and waiting go to the driver by its own handles (pycuda's objects belong to the thread that made them).

The engine is whatever gives an `enqueue(stream)`: TensorRT's, or in tests a host function in its place.
"""

from __future__ import annotations

import math
import queue
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np

from tledge.cuda import Buffer, Gpu, Graph, Mapped, capture
from tledge.errors import InputError, MachineError, TledgeError
from tledge.runtime.session import Array, Port

LANES = 2  # one frame is uploaded or downloaded while another is computed; more only wait for the GPU


class Context(Protocol):
    """An engine made ready for one batch size and one piece of memory."""

    def enqueue(self, stream: int) -> None:
        """Give one inference to the CUstream `stream`; it must not wait, nor allocate."""


class Engine(Protocol):
    """A network that is on the GPU: what it takes and gives, and contexts to run it in.

    `name` is what messages call it, `image` and `logits` its ports (None for a dynamic batch), `batch` its
    smallest, usual and largest batch, `scratch` the bytes of activations that a context works in.
    """

    name: str
    image: Port
    logits: Port
    batch: tuple[int, int, int]
    scratch: int

    def context(self, batch: int, images: int, logits: int, scratch: int, stream: int) -> Context:
        """Return a context for a batch size, with the addresses of images, logits and work memory.

        The CUstream `stream` takes what setting it up gives the GPU to do.
        """

    def free(self) -> None:
        """Give back what it holds on the GPU; its contexts are gone by then."""


class Lane:
    """What one frame needs on its way: `images` is filled by who borrows it, `run` answers."""

    def __init__(self, gpu: Gpu, engine: Engine) -> None:
        """Allocate, and record a graph for each batch size. Call it in the GPU's thread."""
        self._gpu = gpu
        self._stream = gpu.stream()
        self._graphs: dict[int, Graph] = {}
        self._contexts: list[Context] = []
        self._buffers: list[Buffer] = []
        self.images = self.logits = np.empty(0)
        try:
            self._record(engine)
        except BaseException:
            self.free()
            raise

    def _record(self, engine: Engine) -> None:
        largest = engine.batch[2]
        self.images, images = self._memory((largest, *_sizes(engine.image)), engine.image.dtype)
        self.logits, logits = self._memory((largest, *_sizes(engine.logits)), engine.logits.dtype)
        scratch = self._buffer(engine.scratch).address if engine.scratch else 0
        self.images[:] = 0
        for size in ladder(engine.batch):
            context = engine.context(size, images.address, logits.address, scratch, self._stream.handle)
            self._contexts.append(context)  # a graph uses what its context owns
            # The first run of a context sets things up, which cannot be recorded.
            self._give(context, size, images, logits)
            self._stream.synchronise()
            with capture(self._stream) as graph:
                self._give(context, size, images, logits)
            self._graphs[size] = graph
            self.run(size)

    def run(self, count: int) -> Array:
        """Return the logits of the first `count` of `images`: a view, valid until the lane runs again.

        Raises:
            MachineError: the GPU's context is lost.
        """
        size = next(size for size in self._graphs if size >= count)
        self._graphs[size].run(self._gpu, self._stream)
        return self.logits[:count]

    def free(self) -> None:
        """Give everything back. Call it in the GPU's thread."""
        for graph in self._graphs.values():
            graph.free()
        self._graphs.clear()
        self._contexts.clear()
        for buffer in self._buffers:
            buffer.free()
        self._buffers.clear()
        self.images = self.logits = np.empty(0)

    def _memory(self, shape: tuple[int, ...], dtype: str) -> tuple[Array, Buffer | Mapped]:
        """Return an array of the host, and where the GPU has it: the same place, if they share memory."""
        if self._gpu.shares_memory:
            both = self._gpu.mapped(shape, dtype)
            return both.array, both
        array: Array = self._gpu.pinned(shape, dtype)
        return array, self._buffer(array.nbytes)

    def _buffer(self, size: int) -> Buffer:
        buffer = self._gpu.allocate(size)
        self._buffers.append(buffer)
        return buffer

    def _give(self, context: Context, size: int, images: Buffer | Mapped, logits: Buffer | Mapped) -> None:
        if isinstance(images, Buffer):
            self._stream.upload(images, self.images[:size])
        context.enqueue(self._stream.handle)
        if isinstance(logits, Buffer):
            self._stream.download(self.logits[:size], logits)


class Pipeline:
    """An engine on a GPU, ready: `infer` answers tensors, from any thread."""

    def __init__(self, gpu: Gpu, engine: Engine, lanes: int = LANES) -> None:
        """Allocate and warm up everything. Close it in the same thread; it closes the GPU too.

        Raises:
            MachineError: there is not enough memory; nothing is left allocated.
        """
        self.engine = engine
        self._gpu = gpu
        self._lanes: list[Lane] = []
        self._idle: queue.LifoQueue[Lane] = queue.LifoQueue()
        self._free = weakref.finalize(self, _free, gpu, engine, self._lanes)
        try:
            with gpu.current():
                for _ in range(lanes):
                    self._lanes.append(Lane(gpu, engine))
        except BaseException:
            self.close()
            raise
        for lane in self._lanes:
            self._idle.put(lane)

    @contextmanager
    def lane(self) -> Iterator[Lane]:
        """Lend a lane, waiting for one where all are busy."""
        lane = self._idle.get()
        try:
            yield lane
        finally:
            self._idle.put(lane)

    def infer(self, x: Array) -> Array:
        """Return the logits of the input tensor `x`, a fresh array.

        A batch size without a graph of its own is filled up to the next that has one.

        Raises:
            InputError: more images than the engine takes.
            MachineError: the GPU's context is lost.
        """
        largest = self.engine.batch[2]
        if len(x) > largest:
            raise InputError(
                f"the engine {self.engine.name} takes at most {largest} images at once, "
                f"and was given {len(x)}",
                hint=f"Give at most {largest}, or build it for more: tledge build-engine --batch "
                f"{self.engine.batch[0]}:{self.engine.batch[1]}:{len(x)} --rebuild.",
            )
        with self.lane() as lane:
            lane.images[: len(x)] = x
            answer: Array = lane.run(len(x)).copy()
            return answer

    def close(self) -> None:
        """Give all memory and the GPU back; once more does nothing.

        A pipeline that is dropped, or is there when the process ends, closes by itself.

        Raises:
            TledgeError: another thread made it.
        """
        if self._free.alive and not self._gpu.is_mine:
            raise TledgeError(
                f"the engine {self.engine.name} was opened by another thread", hint="Close it there."
            )
        self._free()


def _free(gpu: Gpu, engine: Engine, lanes: list[Lane]) -> None:
    """Free lanes, engine and GPU, in this order. Nothing of a lost GPU, or from another thread, can be."""
    if not gpu.is_mine:
        return
    try:
        with gpu.current():
            while lanes:
                lanes.pop().free()
            engine.free()
    except MachineError:
        return
    gpu.close()


def ladder(batch: tuple[int, int, int]) -> tuple[int, ...]:
    """Return the batch sizes that get a graph, ascending: the three of a profile, and powers of two between.

    So a batch is filled up to less than twice its size, and few graphs do for large profiles.
    """
    smallest, usual, largest = batch
    powers = (1 << step for step in range(math.ceil(math.log2(largest)) + 1))
    return tuple(sorted({smallest, usual, largest, *(p for p in powers if smallest < p < largest)}))


def _sizes(port: Port) -> tuple[int, ...]:
    """Return a port's dimensions behind the batch."""
    return tuple(int(size or 1) for size in port.shape[1:])
