"""Several processes that train one network, as torchrun starts them: gloo on CPUs, NCCL on GPUs.

The first process is the run, as without torchrun: it alone audits, probes, chooses, scores and writes. The
others help in the epochs: each takes its slice of every batch, and the gradients are added up, so that the
weights take the same course as in one process with the same batch (but for the order of sums, and for
dropout, whose masks each process draws for its own slice).
"""

from __future__ import annotations

import datetime
import functools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from tledge.errors import MachineError
from tledge.training import checkpoint
from tledge.training.checkpoint import Checkpoint

MEETING = datetime.timedelta(minutes=5)
# The others wait while the first computes features and scores; that one of them is gone is seen at once.
WORKING = datetime.timedelta(days=7)


@dataclass(frozen=True)
class Team:
    """One of `size` processes: `rank` among all, `local` among those of its machine (its GPU's number)."""

    rank: int = 0
    size: int = 1
    local: int = 0
    group: Any = None  # of torch.distributed

    def share(self, order: Sequence[int], batch_size: int) -> tuple[list[int], int]:
        """Return this process's slices of the batches of `order`, one after the other, and how long each is.

        The last batch may be smaller; it holds an image for each process.
        """
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        slices = [np.array_split(batch, self.size)[self.rank].tolist() for batch in batches]
        return [index for piece in slices for index in piece], len(slices[0])

    def add_up(self, network: nn.Module, loss: float) -> float:
        """Add up the gradients, and the loss, of all processes; each gets the sums."""
        if self.size == 1:
            return loss
        gradients = [p.grad for p in network.parameters() if p.requires_grad and p.grad is not None]
        flat = torch.cat([*(g.reshape(-1) for g in gradients), gradients[0].new_tensor([loss])])
        with _explained():
            dist.all_reduce(flat, group=self.group)
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view(gradient.shape))
            start += gradient.numel()
        return float(flat[-1])

    def hand_out(self, what: Checkpoint) -> None:
        """Give all others what they need for the epochs."""
        data = torch.frombuffer(bytearray(checkpoint.encode(what)), dtype=torch.uint8)
        with _explained():
            dist.broadcast(torch.tensor([len(data)]), 0, self.group)
            dist.broadcast(data, 0, self.group)

    def receive(self) -> Checkpoint:
        """Return what the first process hands out."""
        length = torch.zeros(1, dtype=torch.int64)
        with _explained():
            dist.broadcast(length, 0, self.group)
            data = torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(data, 0, self.group)
        return checkpoint.decode(data.numpy().tobytes())

    def agree(self, epoch: int = 0) -> int:
        """Return which epoch the first process says is next; 0: there is none."""
        if self.size == 1:
            return epoch
        number = torch.tensor([epoch])
        with _explained():
            dist.broadcast(number, 0, self.group)
        return int(number)


ALONE = Team()


@contextmanager
def joined(device: str) -> Iterator[Team]:
    """Give the team that torchrun started this process in, or a team of one.

    Raises:
        MachineError: there is no GPU for this process, or the others cannot be reached.
    """
    if not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        yield ALONE
        return
    rank, size, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu and local >= torch.cuda.device_count():
        raise MachineError(
            f"process {local} of this machine has no GPU: torch finds {torch.cuda.device_count()}",
            hint="Start fewer with --nproc-per-node, or train on CPUs with --device cpu.",
        )
    if on_gpu:
        torch.cuda.set_device(local)
    with _explained():
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=MEETING)
    try:
        with _explained():
            group = dist.new_group(timeout=WORKING)
        yield Team(rank, size, local, group)
    finally:
        dist.destroy_process_group()


@contextmanager
def synchronised(network: nn.Module, team: Team) -> Iterator[None]:
    """Let batch norms that train see the whole batch, not this process's slice, while the block runs."""
    norms = [module for module in network.modules() if isinstance(module, BatchNorm)]
    if team.size > 1:
        for norm in norms:
            # The module stays what it is, so that the names of its weights do.
            norm.forward = functools.partial(_batch_norm, norm, team.group)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            norm.__dict__.pop("forward", None)


class _Sum(torch.autograd.Function):
    """The sum over all processes; each one's gradient is the sum of all gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        x, ctx.group = x.contiguous().clone(), group
        with _explained():
            dist.all_reduce(x, group=group)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.contiguous().clone()
        with _explained():
            dist.all_reduce(gradient, group=ctx.group)
        return gradient, None


def _batch_norm(norm: BatchNorm, group: Any, x: Tensor) -> Tensor:
    """Return batch norm's output for N x C x ..., its statistics over the slices of all processes."""
    if not norm.training:
        return type(norm).forward(norm, x)
    axes, shape = [0, *range(2, x.ndim)], [1, -1, *[1] * (x.ndim - 2)]
    wide = x.float()
    count = wide.new_tensor([x.numel() // x.shape[1]])
    total: Tensor = _Sum.apply(torch.cat([wide.sum(axes), count]), group)
    number, mean = total[-1].detach(), total[:-1] / total[-1]
    centred = wide - mean.view(shape)
    squares: Tensor = _Sum.apply(centred.square().sum(axes), group)
    variance = squares / number
    if norm.running_mean is not None and norm.running_var is not None:
        with torch.no_grad():
            norm.num_batches_tracked.add_(1)  # type: ignore[union-attr]
            pace = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)  # type: ignore[arg-type]
            norm.running_mean.lerp_(mean, pace)
            norm.running_var.lerp_(squares / (number - 1), pace)
    result = centred * (variance + norm.eps).rsqrt().view(shape)
    if norm.affine:
        result = result * norm.weight.view(shape) + norm.bias.view(shape)
    return result.to(x.dtype)


@contextmanager
def _explained() -> Iterator[None]:
    """Say in our words that an exchange failed."""
    try:
        yield
    except RuntimeError as error:  # gloo's and NCCL's only word for a process that is gone
        raise MachineError(
            f"another process of this run cannot be reached: {str(error).strip().splitlines()[0]}",
            hint="The first error above is the cause. With --resume it goes on after the last epoch.",
        ) from error
