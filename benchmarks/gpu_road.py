"""What benchmarks/gpu.py measures: a batch from pixels to labels, in the parts that it is made of."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from tledge.cuda import Buffer, Gpu, Stream, capture
from tledge.cuda.arena import HEADER, TASK, Arena
from tledge.cuda.preprocessor import ImageBatch
from tledge.cuda.raw import call
from tledge.cuda.topk import TopK
from tledge.preprocess import Box, Crop, Letterbox, Spec
from tledge.preprocess.frames import YUV, Frame, plane_shapes
from tledge.runtime.postprocess import ranked

SPECS = (
    Spec(Crop(256, (224, 224)), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    Spec(Letterbox((160, 192)), filter="bicubic", layout="NHWC", dtype="float16"),
    Spec(Box((97, 65)), filter="lanczos", dtype="int8", scale=0.02, zero_point=3),
    Spec(Box((32, 224)), filter="box", dtype="uint8", scale=1 / 255, zero_point=0),
)
MEANINGS = (("bt601", "limited", "left"), ("bt709", "full", "centre"), ("bt2020", "limited", "top-left"))
TOP = 5


class Preparation:
    """Memory for batches on their way to tensors; the first of them is in it."""

    def __init__(self, gpu: Gpu, spec: Spec, batches: Sequence[Sequence[Any]]) -> None:
        """Make room for each of the batches, which have as many images."""
        self.count, self.shape = len(batches[0]), spec.shape
        memory = np.zeros(HEADER + self.count * TASK.itemsize + 16, np.uint8)
        sizes = [Arena(spec, memory, self.count).needed(batch) for batch in batches]
        self.batch = ImageBatch(gpu, spec, self.count, max(sizes))
        self.batch.fill(batches[0])
        self.used = sizes[0]
        self.out_bytes = self.count * int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize
        self.out = gpu.allocate(self.out_bytes)

    def copy(self, stream: Stream) -> None:
        """Give the stream the copy of the images to the GPU."""
        self.batch.give_copy(stream)

    def prepare(self, stream: Stream) -> None:
        """Give the stream the kernel that makes the tensors."""
        self.batch.give_tensors(stream, self.count, self.out)

    def free(self) -> None:
        """Give the GPU's memory back."""
        self.batch.free()
        self.out.free()


def frame(format: str, width: int, height: int, meaning: tuple[str, str, str], seed: int) -> Any:
    """Return noise in a camera's format, or as RGB pixels."""
    random = np.random.default_rng(seed)
    if format == "rgb":
        return random.integers(0, 256, (height, width, 3), np.uint8)
    planes = tuple(
        random.integers(0, 256, shape, np.uint8)
        for shape in plane_shapes(format, width, height)  # type: ignore[arg-type]
    )
    known: tuple[Any, ...] = meaning if format in YUV else ()
    return Frame(format, width, height, planes, *known)  # type: ignore[arg-type]


def copy_inside(stream: Stream, to: Buffer, source: Buffer, size: int) -> None:
    call(
        "cuMemcpyDtoDAsync_v2",
        ctypes.c_ulonglong(to.address),
        ctypes.c_ulonglong(source.address),
        ctypes.c_size_t(size),
        ctypes.c_void_p(stream.handle),
    )


class Copy:
    """In place of a network: its input's first bytes are the logits."""

    name = "a copy in a network's place"

    def __init__(self, made: Preparation, logits: Buffer, classes: int, stream: Stream) -> None:
        self._from, self._to, self._size = made.out, logits, 4 * classes

    def give(self, stream: Stream) -> None:
        """Give the stream one inference."""
        copy_inside(stream, self._to, self._from, self._size)


class Torch:
    """MobileNetV2 in torch, float16, weights drawn: it reads and writes our memory, in our stream."""

    name = "MobileNetV2 in torch"

    def __init__(self, made: Preparation, logits: Buffer, classes: int, stream: Stream) -> None:
        import torch
        from torchvision.models import mobilenet_v2

        torch.manual_seed(0)
        norm = partial(torch.nn.BatchNorm2d, momentum=None)
        network = mobilenet_v2(weights=None, num_classes=classes, norm_layer=norm).cuda()
        with torch.no_grad():
            network(torch.randn(4, *made.shape, device="cuda"))  # else what it computes dies away
        self._network = network.eval().half().to(memory_format=torch.channels_last)
        self._torch = torch
        self._x = torch.as_tensor(AtAddress(made.out, (made.count, *made.shape)), device="cuda")
        self._y = torch.as_tensor(AtAddress(logits, (made.count, classes)), device="cuda")
        self._stream = torch.cuda.ExternalStream(stream.handle)

    def give(self, stream: Stream) -> None:
        """Give the stream one inference."""
        with self._torch.inference_mode(), self._torch.cuda.stream(self._stream):
            x = self._x.half().contiguous(memory_format=self._torch.channels_last)
            self._y.copy_(self._network(x))


class AtAddress:
    """Float32 values of ours, as other libraries take them."""

    def __init__(self, buffer: Buffer, shape: tuple[int, ...]) -> None:
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": "<f4",
            "data": (buffer.address, False),
            "version": 3,
        }


class Road:
    """Pixels to answers: upload, preprocessing, network, top-k, all in one graph for images of any size."""

    def __init__(self, gpu: Gpu, batches: Sequence[Sequence[Any]], classes: int) -> None:
        self.stream = gpu.stream()
        self.made = Preparation(gpu, SPECS[0], batches)
        count = self.made.count
        self.logits = gpu.allocate(4 * classes * count)
        self.indices = gpu.mapped((count, TOP), np.int32)
        self.probabilities = gpu.mapped((count, TOP), np.float32)
        self.search = TopK(gpu, "float32", classes, TOP)
        kind = Torch if torch_sees_gpu() else Copy
        self.network = kind(self.made, self.logits, classes, self.stream)
        for _ in range(3):
            self._give()
        self.stream.synchronise()
        with capture(self.stream) as self.graph:
            self._give()

    def _give(self) -> None:
        self.made.copy(self.stream)
        self.made.prepare(self.stream)
        self.network.give(self.stream)
        places = self.logits, self.made.count, self.indices, self.probabilities
        self.search.give(self.stream, *places)

    def answer(self, batch: Sequence[Any]) -> list[Any]:
        """Return the best classes of each image of the batch."""
        self.made.batch.fill(batch)
        self.graph.launch(self.stream)
        self.stream.synchronise()
        return ranked(self.indices.array, self.probabilities.array)

    def free(self) -> None:
        """Give the GPU's memory back."""
        self.graph.free()
        self.logits.free()
        self.made.free()


def torch_sees_gpu() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())
