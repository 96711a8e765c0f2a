"""What every choice is made by: the loss on tune, after the best temperature.

Accuracy on some hundred images moves in steps as large as the differences to be seen. The loss is finer, but
rewards modesty: label smoothing and averaging change how sure a network is, not what it knows. Dividing the
logits by the temperature that suits them best (Guo et al., 2017) takes that out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Not below a half: where every answer is right the best temperature is zero, and tells nothing.
TEMPERATURES = np.geomspace(0.5, 5, 41)


def tempered_losses(
    logits: NDArray[np.float32], labels: NDArray[np.int64], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return each image's cross-entropy in nats, of logits N x classes, at the temperature best for all.

    With `weights`, N, an image's loss is multiplied by its own (see `balance.weights`).
    """
    scaled = logits[None].astype(np.float64) / TEMPERATURES[:, None, None]
    scaled -= scaled.max(axis=2, keepdims=True)
    right = np.take_along_axis(scaled, labels[None, :, None], axis=2)[..., 0]
    losses: NDArray[np.float64] = np.log(np.exp(scaled).sum(axis=2)) - right
    if weights is not None:
        losses *= weights
    best: NDArray[np.float64] = losses[losses.mean(axis=1).argmin()]
    return best


def tempered_loss(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the mean of `tempered_losses`."""
    return float(tempered_losses(logits, labels).mean())


def worse(losses: list[float], than: list[float]) -> float:
    """Return by how many standard errors the mean of `losses` is above that of `than`, image by image."""
    differences = np.array(losses) - np.array(than)
    error = float(differences.std(ddof=1) / np.sqrt(len(differences))) if len(differences) > 1 else 0.0
    return float(differences.mean()) / error if error > 0 else float(np.sign(differences.mean()))


def top1(
    logits: NDArray[np.float32], labels: NDArray[np.int64], weights: NDArray[np.float64] | None = None
) -> float:
    """Return the percentage of answers that are right, each image counting as much as its weight."""
    return (
        float(100 * np.average(logits.argmax(axis=1) == labels, weights=weights))
        if len(labels)
        else float("nan")
    )


def clearly_worse(losses: list[float], top1: float, than: list[float], other_top1: float) -> bool:
    """Tell whether one network is clearly worse on tune than another: in answers, and in loss.

    In loss by one standard error of the difference on the same images. In answers too: where both know all of
    a small tune set, the loss only tells which of them is surer.
    """
    return top1 < other_top1 and worse(losses, than) > 1


def best_epoch(losses: list[list[float]], answers: list[float]) -> int | None:
    """Return the epoch (from 1) whose weights are kept: the last that is not clearly worse than the best.

    Later epochs, at smaller rates, are better unless something speaks against them. None without tune images.

    Args:
        losses: of each epoch, one for each tune image.
        answers: of each epoch, the percentage of right answers.
    """
    if not losses:
        return None
    least = min(range(len(losses)), key=lambda index: sum(losses[index]))
    return 1 + max(
        index
        for index in range(len(losses))
        if not clearly_worse(losses[index], answers[index], losses[least], answers[least])
    )


def stalled(losses: list[list[float]], answers: list[float], patience: int) -> bool:
    """Tell whether the epoch that would be kept is more than `patience` epochs ago."""
    best = best_epoch(losses, answers)
    return best is not None and len(losses) - best >= patience


def survives(
    before: NDArray[np.float32], after: NDArray[np.float32], labels: NDArray[np.int64], share: float
) -> bool:
    """Tell whether images keep their labels under a change, judged by a classifier's logits on both.

    True unless the classifier loses more than `share` of the images and two standard errors (McNemar's: the
    root of the number of answers whose rightness changed).
    """
    right_before, right_after = before.argmax(axis=1) == labels, after.argmax(axis=1) == labels
    lost = int((right_before & ~right_after).sum())
    gained = int((~right_before & right_after).sum())
    return lost - gained <= share * len(labels) + 2 * float(np.sqrt(lost + gained))
