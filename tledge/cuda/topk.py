"""The best few classes of each image of a batch, found on the GPU (kernels/topk.cu)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from tledge.cuda.stream import Stream

if TYPE_CHECKING:
    from tledge.cuda.gpu import Gpu
    from tledge.cuda.memory import Buffer, Mapped

KERNELS = {"float32": "topk", "float16": "topk_half"}
Place: TypeAlias = "Buffer | Mapped"
THREADS = 256  # kThreads of kernels/topk.cu: a block is an image


class TopK:
    """The kernel for logits of one type, compiled and on the GPU."""

    def __init__(self, gpu: Gpu, dtype: str, classes: int, k: int, temperature: float = 1.0) -> None:
        """Take the kernel for `dtype` (float32 or float16), that many classes, and the `k` best of them.

        Logits are divided by `temperature` before the softmax.

        Raises:
            MachineError: there is no compiler for it.
        """
        self._kernel = gpu.kernels("topk.cu").kernel(KERNELS[dtype], "PiiPPf")
        self._sizes, self._temperature = (classes, k), temperature

    def give(self, stream: Stream, logits: Place, images: int, indices: Place, probabilities: Place) -> None:
        """Give the stream the search in the logits, images x classes.

        What is found goes to `indices` (int32) and `probabilities` (float32), images x k, with the bits of
        `tledge.runtime.postprocess.top`; an image whose logits are not finite gets the index -1.
        """
        found = indices, probabilities, self._temperature
        block, grid = (THREADS, 1, 1), (images, 1, 1)
        self._kernel.launch(stream, grid, block, logits, *self._sizes, *found)
