"""Logits to labels: softmax and the best k, the same for every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return probabilities, float64 N x classes, of `logits` N x classes.

    Computed in float64 from the largest logit down, so that no logit, however large, overflows, and each row
    sums to 1 within 1e-12.
    """
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    weights: NDArray[np.float64] = np.exp(shifted)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def best(values: NDArray[Any], k: int) -> NDArray[np.intp]:
    """Return the indices of the `k` largest values of each row of N x classes, largest first.

    Equal values keep the order of the classes, so that every machine gives the same answer; `k` above the
    number of classes gives them all.
    """
    order = np.argsort(-values, axis=1, kind="stable")
    return order[:, :k]
