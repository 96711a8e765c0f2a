"""How many answers a state will keep on images not seen, from how far it moves logits on a few.

Counting flips on 64 images cannot tell 99 % from 97 %. An answer flips where the difference of the two best
logits is smaller than what quantisation takes from it. With p the density of that margin at zero and d the
change of the difference, the share of flips is p E[max(d, 0)] = p E|d| / 2 for errors of either sign: both
factors are means over many images, whether or not one of these happened to flip.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def agreement(parent: NDArray[np.float32], child: NDArray[np.float32]) -> float:
    """Return the percentage of answers that the child is expected to keep, of logits N x classes.

    The density is that among the quarter of images with the least margins, the change that among the half.
    """
    if parent.shape[1] < 2:
        return 100.0
    rows = np.arange(len(parent))
    order = np.argsort(-parent, axis=1, kind="stable")
    best, second = order[:, 0], order[:, 1]
    margin = (parent[rows, best] - parent[rows, second]).astype(np.float64)
    change = np.abs(margin - (child[rows, best] - child[rows, second]))
    near = np.argsort(margin, kind="stable")
    few, half = max(len(parent) // 4, 1), max(len(parent) // 2, 1)
    widest = margin[near[few - 1]]
    if widest == 0:
        return 100.0 if not change.any() else 0.0
    density = few / len(parent) / widest
    return float(100 * max(0.0, 1 - density * change[near[:half]].mean() / 2))
