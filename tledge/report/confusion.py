"""Which class is taken for which."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Pair:
    """`count` images of class `truth` (of `images` in all) were answered `answer`."""

    truth: int
    answer: int
    count: int
    images: int


def pairs(counts: npt.NDArray[np.int64], limit: int) -> tuple[Pair, ...]:
    """Return the commonest mistakes, at most `limit`: by frequency, then in the order of the classes."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
    found = [divmod(int(place), len(counts)) for place in order]
    return tuple(
        Pair(truth, answer, int(wrong[truth, answer]), int(counts[truth].sum()))
        for truth, answer in found
        if wrong[truth, answer]
    )
