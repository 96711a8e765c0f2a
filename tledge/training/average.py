"""Averaging the weights before and after fine-tuning (WiSE-FT: Wortsman et al., 2022)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tledge.models import Network
from tledge.training import features
from tledge.training.choosing import clearly_worse, tempered_losses, top1
from tledge.training.material import Material

# Of the fine-tuned weights: the first that is not clearly worse on tune than the best is taken. None of them:
# too few epochs can do more harm than good.
SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)


def best_mixture(
    network: Network,
    before: dict[str, Tensor],
    material: Material,
    weights: NDArray[np.float64],
    *,
    known: bool = False,
) -> float:
    """Mix `network`, fine-tuned, with its weights `before` as is best on tune; return its own share.

    Where the pretraining had `known` the classes, the weights before are left only for a reason: the least
    share is taken that is not clearly worse than the best, else the largest. `weights` are those of the tune
    images, see `balance.weights`.
    """
    after = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def mixed(share: float) -> dict[str, Tensor]:
        return {
            name: before[name].lerp(tensor, share) if tensor.is_floating_point() else tensor
            for name, tensor in after.items()
        }

    losses: list[list[float]] = []
    answers: list[float] = []
    for share in SHARES:
        network.load_state_dict(mixed(share))
        title = f"choosing: {share:.0%} fine-tuned"
        (logits,) = features.over(network.eval(), material, material.tune_on, title=title)
        losses.append(tempered_losses(logits, material.tune_labels, weights).tolist())
        answers.append(top1(logits, material.tune_labels, weights))
    judged = list(zip(SHARES, losses, answers, strict=True))
    least = min(range(len(SHARES)), key=lambda index: sum(losses[index]))
    best = next(
        share
        for share, loss, answer in (reversed(judged) if known else judged)
        if not clearly_worse(loss, answer, losses[least], answers[least])
    )
    network.load_state_dict(mixed(best))
    return best
