"""Classes that differ in size: when it matters, and what is then done about it.

A network that is trained on few images of a class learns above all that the class is rare, and answers so.
Logit adjustment (Menon et al., "Long-tail learning via logit adjustment", ICLR 2021) adds the logarithm of
each class's share to the logits in the loss: what the shares explain the network need not learn, and without
them it answers as if all classes were alike, which makes the mean recall of the classes largest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]

# Below this, largest to smallest class, shares cost no more recall than chance does (flowers are 1.4 to 1).
RATIO = 5.0


def strength(labels: Labels, classes: int, asked: float | None) -> float:
    """Return the strength of the adjustment: what is `asked`; else 1 where sizes differ by `RATIO`, or 0."""
    if asked is not None:
        return asked
    counts = np.bincount(labels, minlength=classes)
    return 1.0 if counts.max() >= RATIO * max(1, int(counts.min())) else 0.0


def shifts(labels: Labels, classes: int, strength: float) -> NDArray[np.float32]:
    """Return what the loss adds to each class's logit: `strength` times the logarithm of its share."""
    counts = np.maximum(np.bincount(labels, minlength=classes), 1)
    return np.asarray(strength * np.log(counts / counts.sum()), np.float32)


def weights(labels: Labels, strength: float) -> NDArray[np.float64]:
    """Return each image's weight in a choice, 1 in the mean: with an adjustment every class counts alike."""
    if not strength or not len(labels):
        return np.ones(len(labels))
    counts = np.bincount(labels)
    each = 1 / counts[labels]
    return np.asarray(each / each.mean(), np.float64)
