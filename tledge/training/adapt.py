"""A network brought to a shifted camera by its batch norms: `tledge drift --adapt`, without labels.

What a shifted camera changes is largely the mean and the spread of what comes into each layer (S. Schneider
et al., "Improving robustness against common corruptions by covariate shift adaptation", NeurIPS 2020). Here
each batch norm is given the statistics with which it makes of the field's images what it made of the training
images. The paper puts the field's own statistics in their place. That is the same where a network was trained
with the statistics of its images; but fine-tuning keeps those of the pretraining, which its own images do not
have either, and putting the field's there made most answers of a network of road signs wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tledge.data import decode
from tledge.data.ahead import ordered
from tledge.errors import InputError, UsageError
from tledge.evaluation.images import Readable
from tledge.models import Network
from tledge.preprocess import Preprocessor
from tledge.progress import Progress
from tledge.training import features
from tledge.training.device import Device

BATCH = 32  # of its own statistics the layers below are given while those above are measured
# The paper's N: the training images' statistics weigh as much as so many images of the field.
PRIOR = 16

BatchNorm = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True)
class Moments:
    """Mean and variance of what comes into a batch norm, one each channel, float64."""

    mean: Tensor
    variance: Tensor

    def towards(self, other: Moments, share: float) -> Moments:
        """Return these, moved a share (0 to 1) of the way."""
        return Moments(
            torch.lerp(self.mean, other.mean, share), torch.lerp(self.variance, other.variance, share)
        )


@dataclass(frozen=True)
class Batches:
    """Images to measure, in shuffled batches; those that cannot be read are left out."""

    images: Sequence[Readable]
    prepare: Preprocessor
    device: Device
    progress: Progress
    title: str
    seed: int

    def __iter__(self) -> Iterator[Tensor]:
        """Yield N x 3 x H x W, N at least BATCH where there are so many images."""
        # Folders are sorted by class, and a batch of one class has other statistics than the whole.
        order = np.random.default_rng(self.seed).permutation(len(self.images))
        groups = np.array_split(order, max(1, len(order) // BATCH))
        tensors = ordered(self._tensor, [self.images[index] for index in order], ahead=2 * BATCH)
        with self.progress.task(self.title, total=len(order)) as task:
            for group in groups:
                found = [next(tensors) for _ in group]
                task.advance(len(group))
                if good := [one for one in found if one is not None]:
                    yield features.upload(np.stack(good), self.device)

    def _tensor(self, image: Readable) -> NDArray[Any] | None:
        try:
            return decode.tensor(image.read(), self.prepare, name=image.name)
        except InputError:
            return None


def norms(network: Network) -> list[BatchNorm]:
    """Return the network's batch norms that have statistics.

    Raises:
        UsageError: it has none.
    """
    found = [m for m in network.modules() if isinstance(m, BatchNorm) and m.running_mean is not None]
    if not found:
        raise UsageError(
            f"{network.config['backbone']} has no batch norms that could be adapted",
            hint="Fine-tune it on labelled images of the new camera: tledge finetune DATA --from B.",
        )
    return found


def match(network: Network, source: Batches, field: Batches) -> int:
    """Give the batch norms statistics that make of `field` what they made of `source`, in place.

    Args:
        network: in evaluation mode, on the device.
        source: images like those that it was trained on.
        field: images of the shifted camera; labels are not needed.

    Returns:
        How many images of the field could be read.

    Raises:
        UsageError: the network has no batch norms.
        InputError: no image of one side can be read.
    """
    layers = norms(network)
    own = statistics(layers)
    known, _ = measure(network, layers, source)
    count = len(field.images)
    share = count / (PRIOR + count)

    def adapt(index: int, found: Moments) -> None:
        field_side = known[index].towards(found, share)
        put(layers[index], matched(own[index], known[index], field_side, layers[index].eps))

    # Layers are measured on what the adapted layers below them give, batch by batch; then all take the mean.
    found, read = measure(network, layers, field, adapt)
    for index, moments in enumerate(found):
        adapt(index, moments)
    return read


def matched(own: Moments, source: Moments, field: Moments, eps: float) -> Moments:
    """Return the statistics under which inputs like `field` come out as inputs like `source` did.

    `own` are the statistics in force before. Where they are the source's, the field's take their place.
    """
    ratio = (field.variance + eps) / (source.variance + eps)
    mean = field.mean + (own.mean - source.mean) * ratio.sqrt()
    return Moments(mean, ((own.variance + eps) * ratio - eps).clamp_min(0))


def statistics(layers: Sequence[BatchNorm]) -> list[Moments]:
    """Return a copy of the statistics in force."""
    both = [(_statistic(layer.running_mean), _statistic(layer.running_var)) for layer in layers]
    return [Moments(mean.double().clone(), variance.double().clone()) for mean, variance in both]


def put(layer: BatchNorm, wanted: Moments) -> None:
    """Put statistics in force, in place."""
    _statistic(layer.running_mean).copy_(wanted.mean)
    _statistic(layer.running_var).copy_(wanted.variance)


@torch.inference_mode()
def measure(
    network: Network,
    layers: Sequence[BatchNorm],
    batches: Batches,
    use: Callable[[int, Moments], None] | None = None,
) -> tuple[list[Moments], int]:
    """Return the moments of each layer's inputs over all images, and how many images those are.

    `use` is given each batch's own, before the layer works on the batch.
    """
    totals = [(torch.zeros(()), torch.zeros(())) for _ in layers]
    seen = 0

    def watch(index: int, x: Tensor) -> None:
        over = [0, *range(2, x.ndim)]
        variance, mean = (part.double() for part in torch.var_mean(x, over, correction=0))
        first, second = totals[index]
        totals[index] = (
            first.to(x.device) + len(x) * mean,
            second.to(x.device) + len(x) * (variance + mean**2),
        )
        if use is not None:
            use(index, Moments(mean, variance))

    with _watched(layers, watch):
        for x in batches:
            network(x)
            seen += len(x)
    if not seen:
        raise InputError("none of the images can be read", hint="`tledge audit` says why.")
    means = [(first / seen, second / seen) for first, second in totals]
    return [Moments(mean, (square - mean**2).clamp_min(0)) for mean, square in means], seen


@contextmanager
def _watched(layers: Sequence[BatchNorm], watch: Callable[[int, Tensor], None]) -> Iterator[None]:
    def hook(index: int) -> Any:
        return layers[index].register_forward_pre_hook(lambda _, inputs: watch(index, inputs[0]))

    handles = [hook(index) for index in range(len(layers))]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _statistic(tensor: Tensor | None) -> Tensor:
    assert tensor is not None, "norms() gives layers with statistics"
    return tensor
