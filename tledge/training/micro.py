"""A batch that does not fit into a GPU's memory is worked on in pieces, their gradients added up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tledge.errors import MachineError
from tledge.progress import Progress


@dataclass
class Pieces:
    """How many images are worked on at a time: `most`, 0 for whole batches; batch norm needs `least`."""

    most: int = 0
    least: int = 1

    def of(self, count: int) -> list[int]:
        """Return the sizes of a batch's pieces, as even as they can be."""
        number = -(-count // self.most) if self.most else 1
        number = max(1, min(number, count // self.least))
        return [count // number + (place < count % number) for place in range(number)]

    def halve(self, tried: int, *, alone: bool) -> None:
        """Halve the pieces after `tried` images at a time were too many.

        Raises:
            MachineError: they are as small as they can be, or other processes expect whole batches.
        """
        if not alone:
            raise MachineError(
                f"the GPU's memory is too small for {tried} images of a batch in each process",
                hint="Give a smaller --batch-size; one process alone would work in pieces.",
            )
        if tried < 2 * self.least:
            raise MachineError(
                f"the GPU's memory is too small to train on {tried} image{'s' * (tried > 1)} at a time",
                hint="Give a smaller --image-size or --backbone, or --device cpu.",
            )
        self.most = max(self.least, tried // 2)


def accumulate(
    loss: Callable[[int, int], Tensor],
    count: int,
    optimizer: torch.optim.Optimizer,
    pieces: Pieces,
    progress: Progress,
    *,
    alone: bool = True,
) -> float:
    """Leave a batch's gradients in the weights and return its loss; `pieces` shrink where memory runs out.

    Args:
        loss: the part of the batch's loss that the images from one place up to another make.
        count: images in the batch.
        optimizer: whose weights' gradients are made.
        pieces: how many images at a time; what is found to fit stays for the next batch.
        progress: told when pieces shrink.
        alone: whether no other process works on the same batch.

    Raises:
        MachineError: the smallest pieces do not fit.
    """
    while True:
        sizes, start, total = pieces.of(count), 0, 0.0
        optimizer.zero_grad(set_to_none=True)
        try:
            for size in sizes:
                part = loss(start, start + size)
                part.backward()  # type: ignore[no-untyped-call]
                total += part.item()
                start += size
            return total
        except torch.OutOfMemoryError:
            pieces.halve(sizes[0], alone=alone)
        # Here, not above: while the error is handled, its frames hold on to what filled the memory.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        progress.note(
            f"out of memory with {sizes[0]} images at a time: going on with {pieces.most}, "
            "their gradients added up"
        )
