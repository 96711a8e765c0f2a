"""The road over a GPU: upload, preprocessing, engine and download, one CUDA graph for each batch size.

A query starts from a tensor, or from pixels: images and camera frames of any sizes and formats, which a
kernel resamples on the way (`tledge.cuda.preprocessor`). Either has a graph of its own over the same memory.

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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np

from tledge.cuda import Buffer, Gpu, Graph, Mapped, capture
from tledge.cuda.preprocessor import Image, ImageBatch
from tledge.errors import InputError, MachineError, TledgeError
from tledge.preprocess import Spec
from tledge.runtime.session import Array, Port

LANES = 2  # one frame is uploaded or downloaded while another is computed; more only wait for the GPU
# Bytes of pixels in a lane: four frames of 1920 x 1080 in four bytes a pixel, or one of 3840 x 2160.
ROOM = 32 << 20


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
    """What one frame needs on its way: `images` is filled by who borrows it, `run` answers.

    `run_pixels` does both, from decoded images.
    """

    def __init__(self, gpu: Gpu, engine: Engine, spec: Spec | None = None) -> None:
        """Allocate, and record the graphs of each batch size. Call it in the GPU's thread.

        `spec`, whose tensors the engine takes, is what pixels are preprocessed by; without it none are taken.
        """
        self._gpu = gpu
        self._stream = gpu.stream()
        self._graphs: dict[int, Graph] = {}
        self._pixel_graphs: dict[int, Graph] = {}
        self._pixels: ImageBatch | None = None
        self._contexts: list[Context] = []
        self._buffers: list[Buffer] = []
        self.images = self.logits = np.empty(0)
        try:
            self._record(engine, spec)
        except BaseException:
            self.free()
            raise

    def _record(self, engine: Engine, spec: Spec | None) -> None:
        largest = engine.batch[2]
        self.images, images = self._memory((largest, *_sizes(engine.image)), engine.image.dtype)
        self.logits, logits = self._memory((largest, *_sizes(engine.logits)), engine.logits.dtype)
        scratch = self._buffer(engine.scratch).address if engine.scratch else 0
        self.images[:] = 0
        if spec is not None:
            self._pixels = ImageBatch(self._gpu, spec, largest, ROOM)
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
            if self._pixels is not None:
                with capture(self._stream) as graph:
                    self._give(context, size, images, logits, self._pixels)
                self._pixel_graphs[size] = graph
                graph.run(self._gpu, self._stream)

    def run(self, count: int) -> Array:
        """Return the logits of the first `count` of `images`: a view, valid until the lane runs again.

        Raises:
            MachineError: the GPU's context is lost.
        """
        return self._run(self._graphs, count)

    def run_pixels(self, images: Sequence[Image]) -> Array | None:
        """Return the logits of these images as `run` does, or None where they do not fit into the lane.

        They are resampled by the GPU, with the bits of the host. A size or format that is new only makes
        other bytes for the same graph.

        Raises:
            InputError: one of them is no image, or too large to be resized.
            MachineError: the GPU's context is lost.
        """
        if self._pixels is None or not self._pixels.fits(images):
            return None
        self._pixels.fill(images)
        return self._run(self._pixel_graphs, len(images))

    def _run(self, graphs: dict[int, Graph], count: int) -> Array:
        size = next(size for size in graphs if size >= count)
        graphs[size].run(self._gpu, self._stream)
        return self.logits[:count]

    def free(self) -> None:
        """Give everything back. Call it in the GPU's thread."""
        for graph in (*self._graphs.values(), *self._pixel_graphs.values()):
            graph.free()
        self._graphs.clear()
        self._pixel_graphs.clear()
        self._contexts.clear()
        if self._pixels is not None:
            self._pixels.free()
            self._pixels = None
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

    def _give(
        self,
        context: Context,
        size: int,
        images: Buffer | Mapped,
        logits: Buffer | Mapped,
        pixels: ImageBatch | None = None,
    ) -> None:
        if pixels is not None:
            pixels.give(self._stream, size, images)
        elif isinstance(images, Buffer):
            self._stream.upload(images, self.images[:size])
        context.enqueue(self._stream.handle)
        if isinstance(logits, Buffer):
            self._stream.download(self.logits[:size], logits)


class Pipeline:
    """An engine on a GPU, ready: `infer` answers tensors, from any thread."""

    def __init__(self, gpu: Gpu, engine: Engine, lanes: int = LANES, spec: Spec | None = None) -> None:
        """Allocate and warm up everything. Close it in the same thread; it closes the GPU too.

        Lanes take pixels where there is a `spec`, whose tensors the engine takes.

        Raises:
            MachineError: there is not enough memory, or no compiler for the kernels that pixels need;
                nothing is left allocated.
        """
        self.engine = engine
        self._gpu = gpu
        self._lanes: list[Lane] = []
        self._idle: queue.LifoQueue[Lane] = queue.LifoQueue()
        self._free = weakref.finalize(self, _free, gpu, engine, self._lanes)
        try:
            with gpu.current():
                for _ in range(lanes):
                    self._lanes.append(Lane(gpu, engine, spec))
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
