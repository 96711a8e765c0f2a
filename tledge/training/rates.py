"""Which weights learn how fast, and by which rule."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import nn

from tledge.models import Network


def depths(network: Network) -> dict[str, float]:
    """Return for each parameter how deep it lies, 0 (the input) to 1 (the head).

    Depth counts blocks, in the order in which the network registers them: what has the same first number in
    its name (`body.blocks.3`), or the same module where there is none, is one block.
    """
    blocks: dict[str, int] = {}
    of: dict[str, int] = {}
    for name, _ in network.named_parameters():
        block = "head" if name.startswith("head.") else _block(name)
        of[name] = blocks.setdefault(block, len(blocks))
    # Some networks register their stem's norm or last norm out of order; a block or two do not matter.
    return {name: index / max(1, len(blocks) - 1) for name, index in of.items()}


def _block(name: str) -> str:
    numbered = re.match(r"(.*?\.\d+)\.", name)
    return numbered[1] if numbered else name.rpartition(".")[0]


MOMENTUM = 0.9


def optimizer(kind: str, rates: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Return "adamw", or "sgd" with Nesterov's momentum of 0.9, over the groups of `groups`."""
    if kind == "sgd":
        return torch.optim.SGD(rates, momentum=MOMENTUM, nesterov=True, fused=True)
    return torch.optim.AdamW(rates, fused=True)


def groups(network: Network, *, lr: float, lowest: float, weight_decay: float) -> list[dict[str, Any]]:
    """Return an optimiser's groups: the rate falls geometrically from `lr` at the head to `lowest * lr`.

    Norms and biases are not decayed. Frozen parameters are left out. Howard and Ruder (2018) for the rates.
    """
    found: dict[tuple[float, bool], list[nn.Parameter]] = {}
    depth = depths(network)
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            found.setdefault((depth[name], parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": lr * lowest ** (1 - at),
            "weight_decay": weight_decay if decayed else 0.0,
        }
        for (at, decayed), parameters in found.items()
    ]


def schedule(step: int, steps: int, warmup: float) -> float:
    """Return the factor of the rate at `step` of `steps`: linear warm-up, then half a cosine to nearly 0."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
