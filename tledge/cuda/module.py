"""Kernels: loaded from what a compiler made, and launched."""

from __future__ import annotations

from typing import Any

from tledge.cuda.driver import driver, explained
from tledge.cuda.stream import Stream
from tledge.errors import TledgeError

Size = tuple[int, int, int]


class Kernel:
    """One kernel of a module, with the types of its arguments."""

    def __init__(self, name: str, function: Any, arguments: str) -> None:
        self.name = name
        self._function = function.prepare(arguments)

    def launch(self, stream: Stream, grid: Size, block: Size, *arguments: object, shared: int = 0) -> None:
        """Give the kernel to the stream.

        Args:
            stream: Where it runs, after what is there.
            grid: Number of blocks in x, y, z.
            block: Number of threads of a block in x, y, z.
            arguments: Buffers, mapped memory or addresses for pointers, numbers for the rest.
            shared: Bytes of dynamic shared memory of a block.
        """
        values = [int(a) if hasattr(a, "address") else a for a in arguments]  # type: ignore[call-overload]
        with explained(f"launching {self.name}"):
            self._function.prepared_async_call(grid, block, stream.raw, *values, shared_size=shared)


class Module:
    """Kernels that are on the GPU."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def kernel(self, name: str, arguments: str) -> Kernel:
        """Return the kernel `name`.

        Args:
            name: Its name, declared `extern "C"`.
            arguments: A letter for each argument, as in the module `struct`: P pointer, i int32, f float32.

        Raises:
            TledgeError: the module has no such kernel.
        """
        module = driver()
        try:
            function = self._module.get_function(name)
        except module.LogicError as error:
            raise TledgeError(f"the module has no kernel {name}: {error}") from error
        return Kernel(name, function, arguments)


def load(image: bytes) -> Module:
    """Load `image` (cubin, fatbin or PTX) into the current context; TledgeError if the driver refuses it."""
    with explained("loading kernels"):
        return Module(driver().module_from_buffer(image))
