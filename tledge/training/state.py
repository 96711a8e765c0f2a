"""What a run is made with, and what it is between two epochs: all that a resumed run depends on."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tledge.errors import BundleError
from tledge.models import Network
from tledge.training.augment import Augmentation
from tledge.training.checkpoint import Checkpoint
from tledge.training.micro import Pieces
from tledge.training.rates import groups, optimizer

MOMENTS = ("step", "exp_avg", "exp_avg_sq", "momentum_buffer")  # what AdamW and SGD keep of each weight


@dataclass(frozen=True)
class Recipe:
    """What the epochs are run with, every rule already applied.

    Attributes:
        size: height and width of the training views.
        batch_norm: "frozen" (the statistics of the pretraining) or "batch".
        seed: of order, views and dropout; with the epoch and the index it determines all of them.
        logit_adjust: strength of what balances classes of different sizes (`balance.shifts`), 0 for none.
    """

    epochs: int
    batch_size: int
    lr: float
    lowest_rate: float
    warmup: float
    weight_decay: float
    label_smoothing: float
    size: tuple[int, int]
    augmentation: Augmentation
    batch_norm: str
    patience: int
    seed: int
    optimizer: str = "adamw"
    logit_adjust: float = 0.0


@dataclass
class State:
    """A run between two epochs; `best` is the averaged network of the epoch that tune speaks for."""

    network: Network
    averaged: Network
    optimizer: torch.optim.Optimizer
    best: dict[str, Tensor]
    history: list[dict[str, float]]
    tune_losses: list[list[float]]  # of each epoch, an image each
    pieces: Pieces  # of a batch, where a whole one does not fit into a GPU's memory
    seconds: float = 0.0  # that the run has used, over all of its processes

    @property
    def answers(self) -> list[float]:
        """Return the percentage of tune images that each epoch got right, weighted as choices are."""
        return [entry["tune_balanced"] for entry in self.history if "tune_balanced" in entry]


def begin(network: Network, recipe: Recipe) -> State:
    """Return the state before the first epoch."""
    rates = groups(network, lr=recipe.lr, lowest=recipe.lowest_rate, weight_decay=recipe.weight_decay)
    chosen = optimizer(recipe.optimizer, rates)
    for group in chosen.param_groups:
        group["peak"] = group["lr"]
    averaged = copy.deepcopy(network).eval()
    best = {name: tensor.clone() for name, tensor in averaged.state_dict().items()}
    pieces = Pieces(least=2 if recipe.batch_norm == "batch" else 1)
    return State(network, averaged, chosen, best, [], [], pieces)


def pack(state: State) -> Checkpoint:
    """Return everything that the next epoch depends on."""
    tensors = {f"network.{name}": tensor for name, tensor in state.network.state_dict().items()}
    tensors |= {f"averaged.{name}": tensor for name, tensor in state.averaged.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in state.best.items()}
    for name, parameter in state.network.named_parameters():
        for key, tensor in state.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = tensor
    data = {"history": state.history, "tune_losses": state.tune_losses, "seconds": state.seconds}
    data["micro_batch"] = state.pieces.most
    return Checkpoint(tensors, data)


def restore(state: State, stored: Checkpoint) -> None:
    """Bring `state`, fresh from `begin`, to where `pack` found it; BundleError where an older version did."""
    if "micro_batch" not in stored.data:
        raise BundleError(
            "the run was begun by an older tledge", hint="Go on with that one, or start anew with --force."
        )
    state.network.load_state_dict(stored.part("network"))
    state.averaged.load_state_dict(stored.part("averaged"))
    state.best = stored.part("best")
    moments: dict[str, dict[str, Tensor]] = {key: stored.part(f"optimizer.{key}") for key in MOMENTS}
    for name, parameter in state.network.named_parameters():
        found: dict[str, Any] = {key: part[name] for key, part in moments.items() if name in part}
        if found:
            # The moments lie in memory as the weights do: another order would add up in another order.
            state.optimizer.state[parameter] = {
                key: tensor.to(parameter.device)
                if key == "step"
                else torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(tensor)
                for key, tensor in found.items()
            }
    state.history, state.tune_losses = list(stored.data["history"]), list(stored.data["tune_losses"])
    state.seconds, state.pieces.most = stored.data["seconds"], stored.data["micro_batch"]
