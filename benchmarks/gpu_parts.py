"""What benchmarks/gpu.py measures: images, their way to tensors, and networks that are not TensorRT's."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tledge.cuda import Gpu, Stream
from tledge.cuda.arena import HEADER, TASK, Arena
from tledge.cuda.preprocessor import ImageBatch
from tledge.cuda.raw import call
from tledge.preprocess import Box, Crop, Letterbox, Spec
from tledge.preprocess.frames import YUV, Frame, plane_shapes
from tledge.runtime.session import Port

SPECS = (
    Spec(Crop(256, (224, 224)), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    Spec(Letterbox((160, 192)), filter="bicubic", layout="NHWC", dtype="float16"),
    Spec(Box((97, 65)), filter="lanczos", dtype="int8", scale=0.02, zero_point=3),
    Spec(Box((32, 224)), filter="box", dtype="uint8", scale=1 / 255, zero_point=0),
)
MEANINGS = (("bt601", "limited", "left"), ("bt709", "full", "centre"), ("bt2020", "limited", "top-left"))


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


def copy_inside(stream: int, to: int, source: int, size: int) -> None:
    """Give the CUstream a copy from one address of the GPU to another."""
    addresses = ctypes.c_ulonglong(to), ctypes.c_ulonglong(source)
    call("cuMemcpyDtoDAsync_v2", *addresses, ctypes.c_size_t(size), ctypes.c_void_p(stream))


class Network:
    """`tledge.runtime.lane.Engine` that is not TensorRT's: for one image at a time, of SPECS[0]."""

    batch = (1, 1, 1)
    scratch = 0
    classes = 1000

    def __init__(self) -> None:
        self.image = Port("images", SPECS[0].dtype, (None, *SPECS[0].shape))
        self.logits = Port("logits", "float32", (None, self.classes))

    def free(self) -> None:
        """Nothing is held beyond its contexts."""


class Copy(Network):
    """In place of a network: its input's first values are the logits."""

    name = "a copy in a network's place"

    def context(self, batch: int, images: int, logits: int, scratch: int, stream: int) -> Copying:
        """Return a copy between these addresses."""
        return Copying(images, logits, 4 * self.classes)


@dataclass(frozen=True)
class Copying:
    """The context of `Copy`."""

    images: int
    logits: int
    size: int

    def enqueue(self, stream: int) -> None:
        """Give the stream one inference."""
        copy_inside(stream, self.logits, self.images, self.size)


class Torch(Network):
    """MobileNetV2 in torch, float16, weights drawn: it reads and writes our memory, in our stream."""

    name = "MobileNetV2 in torch"

    def __init__(self) -> None:
        import torch
        from torchvision.models import mobilenet_v2

        super().__init__()
        torch.manual_seed(0)
        norm = partial(torch.nn.BatchNorm2d, momentum=None)
        network = mobilenet_v2(weights=None, num_classes=self.classes, norm_layer=norm).cuda()
        with torch.no_grad():
            network(torch.randn(4, *SPECS[0].shape, device="cuda"))  # else what it computes dies away
        torch.cuda.synchronize()
        self.network = network.eval().half().to(memory_format=torch.channels_last)

    def context(self, batch: int, images: int, logits: int, scratch: int, stream: int) -> Inference:
        """Return the network between these addresses."""
        x, y = AtAddress(images, (batch, *SPECS[0].shape)), AtAddress(logits, (batch, self.classes))
        return Inference(self.network, x, y)


class Inference:
    """The context of `Torch`."""

    def __init__(self, network: Any, x: AtAddress, y: AtAddress) -> None:
        import torch

        self._torch, self._network = torch, network
        self._x, self._y = torch.as_tensor(x, device="cuda"), torch.as_tensor(y, device="cuda")

    def enqueue(self, stream: int) -> None:
        """Give the stream one inference."""
        torch = self._torch
        with torch.inference_mode(), torch.cuda.stream(torch.cuda.ExternalStream(stream)):
            self._y.copy_(self._network(self._x.half().contiguous(memory_format=torch.channels_last)))


class AtAddress:
    """Float32 values at an address of the GPU, as other libraries take them."""

    def __init__(self, address: int, shape: tuple[int, ...]) -> None:
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": "<f4",
            "data": (address, False),
            "version": 3,
        }


def network() -> Network:
    """Return the network of this machine: torch's if torch sees the GPU, else a copy."""
    try:
        import torch
    except ImportError:
        return Copy()
    return Torch() if torch.cuda.is_available() else Copy()
