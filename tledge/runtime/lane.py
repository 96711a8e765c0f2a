"""A lane: what one frame needs on its way over a GPU, with a CUDA graph for each batch size.

A query starts from a tensor, or from pixels: images and camera frames of any sizes and formats, which a
kernel resamples on the way (`tledge.cuda.preprocessor`). Either has a graph of its own over the same memory:
upload, preprocessing, engine, the best classes (`tledge.cuda.topk`), download.

The engine is whatever gives an `enqueue(stream)`: TensorRT's, or in tests a host function in its place.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from tledge.cuda import Buffer, Gpu, Graph, Marks, capture
from tledge.cuda.graph import download
from tledge.cuda.preprocessor import Image, ImageBatch
from tledge.cuda.topk import Place, TopK
from tledge.preprocess import Spec
from tledge.runtime import postprocess
from tledge.runtime.session import Array, Port

# Bytes of pixels in a lane: four frames of 1920 x 1080 in four bytes a pixel, or one of 3840 x 2160.
ROOM = 32 << 20
BEST = 5  # classes of an image that the GPU finds: what `predict` shows unless it is asked for more


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
    """What one frame needs on its way: `images` is filled by who borrows it, `run` has it answered.

    `run_pixels` does both, from decoded images. `logits` and `top` are the answers.
    """

    def __init__(self, gpu: Gpu, engine: Engine, spec: Spec | None = None, temperature: float = 1.0) -> None:
        """Allocate, and record the graphs of each batch size. Call it in the GPU's thread.

        `spec`, whose tensors the engine takes, is what pixels are preprocessed by. Without it, where kernels
        cannot be compiled, no pixels are taken, and the best classes are found on the host. `temperature` is
        what logits are divided by.
        """
        self._gpu = gpu
        self._stream = gpu.stream()
        self._graphs: dict[int, Graph] = {}
        self._pixel_graphs: dict[int, Graph] = {}
        self._timed_graphs: dict[tuple[int, bool], tuple[Graph, Marks]] = {}
        self._pixels: ImageBatch | None = None
        self._search: TopK | None = None
        self._temperature = temperature
        self._contexts: dict[int, Context] = {}
        self._buffers: list[Buffer] = []
        self.images: Array = np.empty(0)
        self._logits: Array = self.images
        self._indices: Array = self.images
        self._probabilities: Array = self.images
        try:
            self._allocate(engine, spec)
            self._record(engine)
        except BaseException:
            self.free()
            raise

    def _allocate(self, engine: Engine, spec: Spec | None) -> None:
        largest = engine.batch[2]
        self.images, self._images_there = self._memory((largest, *_sizes(engine.image)), engine.image.dtype)
        self._logits, self._logits_there = self._memory(
            (largest, *_sizes(engine.logits)), engine.logits.dtype
        )
        self.images[:] = 0
        if spec is not None:
            self._pixels = ImageBatch(self._gpu, spec, largest, ROOM)
            classes = math.prod(_sizes(engine.logits))
            best = min(BEST, classes)
            self._search = TopK(self._gpu, engine.logits.dtype, classes, best, self._temperature)
            self._indices, self._indices_there = self._memory((largest, best), "int32")
            self._probabilities, self._probabilities_there = self._memory((largest, best), "float32")

    def _record(self, engine: Engine) -> None:
        scratch = self._buffer(engine.scratch).address if engine.scratch else 0
        places = self._images_there.address, self._logits_there.address, scratch
        for size in ladder(engine.batch):
            context = engine.context(size, *places, self._stream.handle)
            self._contexts[size] = context  # a graph uses what its context owns
            # The first run of a context sets things up, which cannot be recorded.
            self._give(context, size)
            self._stream.synchronise()
            with capture(self._stream) as graph:
                self._give(context, size)
            self._graphs[size] = graph
            self.run(size)
            if self._pixels is not None:
                with capture(self._stream) as graph:
                    self._give(context, size, self._pixels)
                self._pixel_graphs[size] = graph
                graph.run(self._gpu, self._stream)

    def run(self, count: int) -> None:
        """Have the first `count` of `images` answered.

        Raises:
            MachineError: the GPU's context is lost.
        """
        self._run(self._graphs, count)

    def run_pixels(self, images: Sequence[Image]) -> bool:
        """Have these images answered; False, and nothing done, where they do not fit into the lane.

        They are resampled by the GPU, with the bits of the host. A size or format that is new only makes
        other bytes for the same graph.

        Raises:
            InputError: one of them is no image, or too large to be resized.
            MachineError: the GPU's context is lost.
        """
        if self._pixels is None or not self._pixels.fits(images):
            return False
        self._pixels.fill(images)
        self._run(self._pixel_graphs, len(images))
        return True

    def _run(self, graphs: dict[int, Graph], count: int) -> None:
        graphs[self._size(count)].run(self._gpu, self._stream)

    def _size(self, count: int) -> int:
        """Return the least batch size that has graphs and holds so many images."""
        return next(size for size in self._contexts if size >= count)

    def run_timed(self, count: int, images: Sequence[Image] | None = None) -> dict[str, float] | None:
        """Do what `run` does, or with `images` `run_pixels`, and return how long each stage took, in ms.

        A stage that there is not (memory that both share is not copied) is not in it. The graph is another
        one, with an event between any two stages, and is recorded when it is needed first: call this in the
        GPU's thread. "upload" of pixels includes putting them where the GPU reads them.
        """
        filled_ms = 0.0
        if images is not None:
            if self._pixels is None or not self._pixels.fits(images):
                return None
            began = time.perf_counter()
            self._pixels.fill(images)
            filled_ms = (time.perf_counter() - began) * 1e3
        key = self._size(count), images is not None
        if key not in self._timed_graphs:
            self._timed_graphs[key] = self._timed(*key)
        graph, marks = self._timed_graphs[key]
        graph.run(self._gpu, self._stream)
        with self._gpu.current():
            taken = marks.milliseconds()
        if images is not None:
            taken["upload"] += filled_ms
        return taken

    def _timed(self, size: int, pixels: bool) -> tuple[Graph, Marks]:
        """Record the graph of a batch size, from pixels or from tensors, with marks."""
        marks = Marks()
        with self._gpu.current():
            try:
                with capture(self._stream) as graph:
                    marks.place(self._stream, "begin")
                    self._give(
                        self._contexts[size],
                        size,
                        self._pixels if pixels else None,
                        lambda stage: marks.place(self._stream, stage),
                    )
            except BaseException:
                marks.free()
                raise
        return graph, marks

    def logits(self, count: int) -> Array:
        """Return the logits of what ran last, `count` images: a view, valid until the lane runs again."""
        logits = self._logits[:count]
        if self._search is not None and isinstance(self._logits_there, Buffer):
            # The graph leaves them on the GPU: who asks for the best classes does not need them.
            download(self._gpu, self._stream, logits, self._logits_there)
        return logits

    def top(self, count: int, k: int) -> list[postprocess.Ranking]:
        """Return the `k` best classes of each image of what ran last; see `postprocess.top`."""
        if self._search is not None and k <= BEST:
            return postprocess.ranked(self._indices[:count, :k], self._probabilities[:count, :k])
        return postprocess.top(self.logits(count).reshape(count, -1), k, self._temperature)

    def free(self) -> None:
        """Give everything back. Call it in the GPU's thread."""
        for graph in (*self._graphs.values(), *self._pixel_graphs.values()):
            graph.free()
        for graph, marks in self._timed_graphs.values():
            graph.free()
            marks.free()
        self._timed_graphs.clear()
        self._graphs.clear()
        self._pixel_graphs.clear()
        self._contexts.clear()
        if self._pixels is not None:
            self._pixels.free()
            self._pixels = None
        for buffer in self._buffers:
            buffer.free()
        self._buffers.clear()
        self.images = self._logits = self._indices = self._probabilities = np.empty(0)

    def _memory(self, shape: tuple[int, ...], dtype: str) -> tuple[Array, Place]:
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
        pixels: ImageBatch | None = None,
        ended: Callable[[str], None] = lambda stage: None,
    ) -> None:
        """Give the stream everything from upload to download; `ended` is told after each stage."""
        if pixels is not None:
            pixels.give_copy(self._stream)
            ended("upload")
            pixels.give_tensors(self._stream, size, self._images_there)
            ended("preprocess")
        elif isinstance(self._images_there, Buffer):
            self._stream.upload(self._images_there, self.images[:size])
            ended("upload")
        context.enqueue(self._stream.handle)
        ended("infer")
        answers = [(self._logits, self._logits_there)]
        if self._search is not None:
            found = self._indices_there, self._probabilities_there
            self._search.give(self._stream, self._logits_there, size, *found)
            ended("postprocess")
            answers = list(zip((self._indices, self._probabilities), found, strict=True))
        for array, there in answers:
            if isinstance(there, Buffer):
                self._stream.download(array[:size], there)
                ended("download")


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
