"""What a network makes of images, computed once: features for the probe, logits for choices and scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tledge.models import Network
from tledge.training.augment import Augmentation, generator, view
from tledge.training.device import Device
from tledge.training.images import batches
from tledge.training.material import Material

Floats = NDArray[Any]  # float32

BATCH = 32  # larger ones gain nothing on a CPU, smaller ones lose a tenth


def upload(tensors: Floats, device: Device) -> Tensor:
    """Return N x C x H x W as a tensor on the device in channels_last order, which convolutions want."""
    return torch.from_numpy(np.ascontiguousarray(tensors)).to(device.torch, memory_format=torch.channels_last)


def place(network: Network, device: Device) -> Network:
    """Return the network on the device, its weights in channels_last order."""
    return network.to(device=device.torch, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


@torch.inference_mode()
def over(
    run: Callable[[Tensor], Tensor],
    material: Material,
    indices: Sequence[int],
    *,
    title: str,
    how: Augmentation | None = None,
    mirrored: bool = False,
) -> list[Floats]:
    """Return what `run` (features or logits) makes of images, N x D float32, in the order of `indices`.

    The first array is of the images as the spec wants them; with `mirrored` a second is of their mirror
    images. With `how` the images are random views instead.
    """
    images, prepare, device = material.images, material.prepare, material.device

    def make(index: int) -> Floats:
        if how is not None:
            return prepare.normalise(
                view(images.small(index), prepare.spec.size, how, generator(0, 0, index))
            )
        return prepare(images.whole(index))

    results: list[list[Tensor]] = [[], []] if mirrored else [[]]
    with material.progress.task(title, total=len(indices)) as task:
        for found, stacked in batches(make, indices, BATCH, material.workers):
            x = upload(stacked, device)
            with device.autocast():
                results[0].append(run(x).float().cpu())
                if mirrored:
                    results[1].append(run(x.flip(3)).float().cpu())
            task.advance(len(found))
    return [torch.cat(parts).numpy() for parts in results]
