"""What every choice is made by: the loss on tune, after the best temperature.

Accuracy on some hundred images moves in steps as large as the differences to be seen. The loss is finer, but
rewards modesty: label smoothing and averaging change how sure a network is, not what it knows. Dividing the
logits by the temperature that suits them best (Guo et al., 2017) takes that out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TEMPERATURES = np.geomspace(0.05, 20, 61)


def tempered_loss(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the mean cross-entropy in nats of logits (N x classes) at the best of 61 temperatures."""
    scaled = logits[None].astype(np.float64) / TEMPERATURES[:, None, None]
    scaled -= scaled.max(axis=2, keepdims=True)
    right = np.take_along_axis(scaled, labels[None, :, None], axis=2)[..., 0]
    losses = (np.log(np.exp(scaled).sum(axis=2)) - right).mean(axis=1)
    return float(losses.min())


def top1(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the percentage of answers that are right."""
    return float(100 * (logits.argmax(axis=1) == labels).mean()) if len(labels) else float("nan")


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
