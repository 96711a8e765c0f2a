"""Images to tensors on the GPU, with the bits of the host (kernels/tensors.cu).

Images of any sizes and formats go into an arena of the host (`tledge.cuda.arena`); one kernel copies what is
used of it to the GPU, another makes the batch. Both take only addresses that stay, so that a recorded graph
serves every size: a new one is only other bytes in the arena.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from tledge.cuda.arena import TASK, Arena
from tledge.cuda.gpu import Gpu
from tledge.cuda.memory import Buffer, Mapped
from tledge.cuda.stream import Stream
from tledge.errors import TledgeError
from tledge.preprocess import Spec
from tledge.preprocess.frames import Frame
from tledge.preprocess.images import Pixels, Tensor, check_out
from tledge.preprocess.tables import normalisation

TILE = 16  # kTile of kernels/tensors.cu: a block's sides
# Threads of the copy: some thousand loads of 16 bytes under way hide the way to the host's memory.
COPY_BLOCKS, COPY_THREADS = 64, 256
SMALLEST_ROOM = 1 << 20

Image: TypeAlias = "Pixels | Frame"


class ImageBatch:
    """Memory for up to `most` images on their way to the GPU, and the kernels that make tensors of them.

    `fill` is the host's part and may be done in any thread; the rest belongs to the GPU's.
    """

    def __init__(self, gpu: Gpu, spec: Spec, most: int, room: int) -> None:
        """Allocate `room` bytes on either side, and take the kernels.

        Raises:
            MachineError: not enough memory, or no compiler for the kernels.
        """
        kernels = gpu.kernels("tensors.cu")
        self._copy = kernels.kernel("upload", "PP")
        self._tensors = kernels.kernel("tensors", "PPPiiiii")
        table = np.ascontiguousarray(normalisation(spec))
        rows, columns = spec.size
        self._grid = -(-columns // TILE), -(-rows // TILE)
        flags = int(spec.layout == "NHWC"), int(spec.decode.colour == "bgr")
        self._output = columns, rows, table.itemsize, *flags
        self.most, self.room = most, room
        self._buffers: list[Buffer] = []
        try:
            self._there = self._buffer(gpu, room)
            self._table = self._buffer(gpu, table.nbytes)
            self._host = gpu.mapped((room,), np.uint8)
            stream = gpu.stream()
            with gpu.current():
                stream.upload(self._table, table)
                stream.synchronise()
        except BaseException:
            self.free()
            raise
        self._arena = Arena(spec, self._host.array, most)

    def needed(self, images: Sequence[Image]) -> int:
        """Return how many bytes of room these images need.

        Raises:
            InputError: one of them is no image, or too large to be resized; as on the host.
        """
        return self._arena.needed(images)

    def fits(self, images: Sequence[Image]) -> bool:
        """Tell whether these images fit into the memory; raises what `needed` does."""
        return len(images) <= self.most and self.needed(images) <= self.room

    def fill(self, images: Sequence[Image]) -> None:
        """Put images that fit in place of the ones before, when the GPU does not read these any more."""
        self._arena.fill(images)

    def give(self, stream: Stream, count: int, out: Buffer | Mapped) -> None:
        """Give the stream the copy to the GPU, and the launch that writes `count` tensors to `out`.

        Of places without an image the tensor is the border's.
        """
        self.give_copy(stream)
        self.give_tensors(stream, count, out)

    def give_copy(self, stream: Stream) -> None:
        """Give the stream the first half of `give`: what was filled in, to the GPU."""
        self._copy.launch(stream, (COPY_BLOCKS, 1, 1), (COPY_THREADS, 1, 1), self._host, self._there)

    def give_tensors(self, stream: Stream, count: int, out: Buffer | Mapped) -> None:
        """Give the stream the second half of `give`: the tensors of what is on the GPU."""
        grid, block = (*self._grid, count), (TILE, TILE, 1)
        self._tensors.launch(stream, grid, block, self._there, self._table, out, *self._output)

    def free(self) -> None:
        """Give the GPU's memory back, in its thread; the host's goes with the last reference to this."""
        for buffer in self._buffers:
            buffer.free()
        self._buffers.clear()

    def _buffer(self, gpu: Gpu, size: int) -> Buffer:
        buffer = gpu.allocate(size)
        self._buffers.append(buffer)
        return buffer


@dataclass(frozen=True)
class _Memory:
    """What batches up to some size need on the GPU."""

    images: ImageBatch
    out: Buffer
    stream: Stream

    def free(self) -> None:
        self.images.free()
        self.out.free()


class CudaPreprocessor:
    """Turns images into tensors on a GPU; to be used, and closed, in the thread that made it.

    A batch may hold images of different sizes and formats. Its memory grows with the largest batch so far.
    """

    def __init__(self, spec: Spec, gpu: Gpu | None = None) -> None:
        """Take a GPU that stays open, or open the first one and close it with this.

        Raises:
            MachineError: no pycuda, no driver, no GPU, no compiler for the kernels.
        """
        self.spec = spec
        self._gpu = gpu or Gpu()
        self._is_mine = gpu is None
        self._memory: _Memory | None = None
        try:
            self._grow(1, SMALLEST_ROOM)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> CudaPreprocessor:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __call__(self, image: Image, out: Tensor | None = None) -> Tensor:
        """Return the tensor (spec.shape, spec.dtype) of one image, written into `out` if that is given."""
        result = check_out(out, self.spec.shape, self.spec.dtype)
        self.batch([image], result[np.newaxis])
        return result

    def batch(self, images: Iterable[Image], out: Tensor | None = None) -> Tensor:
        """Return the tensors of several images, of any sizes and formats: N x spec.shape.

        Raises:
            InputError: as the host does.
            MachineError: not enough memory, or the GPU's context is lost.
        """
        listed = list(images)
        memory = self._holding(listed)
        result = check_out(out, (len(listed), *self.spec.shape), self.spec.dtype)
        if listed:
            with self._gpu.current():
                memory.images.fill(listed)
                memory.images.give(memory.stream, len(listed), memory.out)
                memory.stream.download(result, memory.out)
                memory.stream.synchronise()
        return result

    def close(self) -> None:
        """Give the memory back, and the GPU if it was opened here; once more does nothing."""
        if self._memory is not None:
            with self._gpu.current():
                self._memory.free()
                self._memory = None
        if self._is_mine:
            self._gpu.close()

    def _holding(self, images: Sequence[Image]) -> _Memory:
        """Return memory that these images fit into."""
        if self._memory is None:
            raise TledgeError("this preprocessor is closed")
        known = self._memory.images
        if known.fits(images):
            return self._memory
        needed = known.needed(images) + len(images) * TASK.itemsize
        return self._grow(max(len(images), known.most), max(needed, known.room))

    def _grow(self, most: int, room: int) -> _Memory:
        size = most * int(np.prod(self.spec.shape)) * np.dtype(self.spec.dtype).itemsize
        with self._gpu.current():
            if self._memory is not None:
                self._memory.free()
                self._memory = None
            images = ImageBatch(self._gpu, self.spec, most, 1 << (room - 1).bit_length())
            try:
                self._memory = _Memory(images, self._gpu.allocate(size), self._gpu.stream())
            except BaseException:
                images.free()
                raise
        return self._memory
