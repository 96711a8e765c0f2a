"""Logits to probabilities: the best few classes of one image, the same for every backend."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tledge.errors import InputError

# Up to this many classes plain Python is faster. An inference leaves the caches cold, and each first call
# into numpy then costs about 10 us: 5 classes took 24 us with lists and 63 with arrays, 1000 classes 240 and
# 115.
FEW = 128


def top(logits: NDArray[Any], k: int) -> list[tuple[int, float]]:
    """Return the `k` best classes of one image, best first: (index, probability 0 to 1).

    Softmax is computed in float64 from the largest logit down, so that no finite logit, however large,
    overflows. Equal logits keep the order of the classes; `k` above their number gives them all.

    Args:
        logits: one image's logits, (classes,), floating point.
        k: 1 or more.

    Raises:
        InputError: a logit is NaN or infinite: the graph itself is at fault.
    """
    values = logits.tolist()
    if len(values) <= FEW:
        order = sorted(range(len(values)), key=values.__getitem__, reverse=True)[:k]
        largest = values[order[0]]
        total = sum([math.exp(value - largest) for value in values]) if math.isfinite(largest) else math.nan
    else:
        wide = logits.astype(np.float64)
        order = (-wide).argsort(kind="stable")[:k].tolist()
        largest = values[order[0]]
        total = float(np.exp(wide - largest).sum()) if math.isfinite(largest) else math.nan
    if not math.isfinite(total):
        raise InputError(
            "the network answered with logits that are not finite numbers",
            hint="Its graph overflows (float16 often does): evaluate it, or use another variant.",
        )
    return [(index, math.exp(values[index] - largest) / total) for index in order]
