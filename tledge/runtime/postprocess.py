"""Logits to probabilities: the best few classes of each image, the same bits on the host and on a GPU.

The arithmetic is written in kernels/topk.h, once for both: `top` runs it on the host, and what the GPU's
kernel answered goes through `ranked`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tledge.errors import InputError, MachineError
from tledge.preprocess.native import library

Ranking = list[tuple[int, float]]

LARGEST_CLASSES = 1 << 19
# Answers of the library (kernels/topk.cpp).
NO_MEMORY = -2


def top(logits: NDArray[Any], k: int, temperature: float = 1.0) -> list[Ranking]:
    """Return the `k` best classes of each image, best first: (index, probability 0 to 1).

    Softmax is computed in float32 from the largest logit down, so that no finite logit, however large,
    overflows; it is within 2e-7 of the exact one. Equal logits keep the order of the classes; `k` above their
    number gives them all.

    Args:
        logits: images x classes, float32 or float16.
        k: 1 or more.
        temperature: what logits are divided by, in float32; above 0.

    Raises:
        InputError: a logit is NaN or infinite: the graph itself is at fault; more than 524288 classes.
        MachineError: no memory.
    """
    count, classes = logits.shape
    if classes > LARGEST_CLASSES:
        raise InputError(
            f"the network gives {classes} logits an image", hint=f"At most {LARGEST_CLASSES} are supported."
        )
    given = min(k, classes)
    logits = np.ascontiguousarray(logits)
    indices, probabilities = np.empty((count, given), np.int32), np.empty((count, given), np.float32)
    code = library().tledge_topk(
        logits.ctypes.data,
        logits.itemsize,
        count,
        classes,
        given,
        temperature,
        indices.ctypes.data,
        probabilities.ctypes.data,
    )
    if code == NO_MEMORY:
        raise MachineError("no memory for the answers", hint="Free some, or use a smaller batch.")
    if code != 0:
        raise RuntimeError(f"the kernels answered {code}")
    return ranked(indices, probabilities)


def ranked(indices: NDArray[np.int32], probabilities: NDArray[np.float32]) -> list[Ranking]:
    """Return what the kernels wrote, images x k of both, as lists; InputError as in `top`."""
    rankings = [
        list(zip(*both, strict=True)) for both in zip(indices.tolist(), probabilities.tolist(), strict=True)
    ]
    if any(ranking[0][0] < 0 for ranking in rankings):
        raise InputError(
            "the network answered with logits that are not finite numbers",
            hint="Its graph overflows (float16 often does): evaluate it, or use another variant.",
        )
    return rankings
