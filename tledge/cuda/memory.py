"""Memory: the GPU's own, page-locked memory of the host, and memory of the host that the GPU sees too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tledge.cuda.driver import driver, explained

Array = NDArray[Any]


class Buffer:
    """Memory of the GPU: `address` is what kernels and TensorRT take, `size` its bytes."""

    def __init__(self, allocation: Any, size: int) -> None:
        self._allocation = allocation
        self.address = int(allocation)
        self.size = size

    def __index__(self) -> int:
        return self.address

    def free(self) -> None:
        """Give the memory back; once more does nothing. Call it in the GPU's thread."""
        if self._allocation is not None:
            with explained(f"freeing {self.size} bytes"):
                self._allocation.free()
            self._allocation = None
            self.address = 0


@dataclass(frozen=True)
class Mapped:
    """One piece of memory, seen by both: `array` on the host, `address` on the GPU.

    On a Jetson, where they share their memory, the GPU reads it with no copy. Elsewhere each access goes over
    the bus, and a copy is faster for anything that is read twice.
    """

    array: Array
    address: int

    def __index__(self) -> int:
        return self.address


def allocate(size: int) -> Buffer:
    """Return `size` bytes of the current GPU's memory; MachineError if there are not that many."""
    if size < 1:
        raise ValueError(f"{size} bytes")
    with explained(f"allocating {size / 2**20:.1f} MiB"):
        return Buffer(driver().mem_alloc(size), size)


def pinned(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an array in page-locked memory; MachineError if there is not so much."""
    with explained(f"page-locking {np.dtype(dtype).itemsize * int(np.prod(shape)) / 2**20:.1f} MiB"):
        array: Array = driver().pagelocked_empty(shape, dtype)
    return array


def mapped(shape: tuple[int, ...], dtype: Any) -> Mapped:
    """Return memory that both sides see; MachineError if there is not so much."""
    module = driver()
    size = np.dtype(dtype).itemsize * int(np.prod(shape))
    with explained(f"mapping {size / 2**20:.1f} MiB"):
        array = module.pagelocked_empty(shape, dtype, mem_flags=module.host_alloc_flags.DEVICEMAP)
        return Mapped(array, int(array.base.get_device_pointer()))
