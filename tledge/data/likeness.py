"""Which images look alike: a perceptual hash to find pairs, a small picture of each to confirm them.

The hash is the DCT hash of C. Zauner (Implementation and benchmarking of perceptual image hash functions,
2010): the image in grey, averaged to 32 x 32, its discrete cosine transform, the 8 x 8 lowest frequencies
without the constant one, each a bit: above their median or not. Pairs whose 63 bits differ in at most
`RADIUS` are then compared as 32 x 32 pictures, and near duplicates where the correlation is `ALIKE` or more:
the hash alone joins photos that have only their composition in common. On 3670 flower photos this finds 15
pairs, all of one photo twice (recoloured, in grey, scaled). Images with a side under 32 pixels are not
compared: they hold too little to tell two of a kind from two copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

SIDE = 32
LOW = 8
RADIUS = 10
ALIKE = 0.97
MOST = 10_000  # pairs listed: frames of one still camera are all alike, and 10,000 of them make 5e7 pairs
_BLOCK = 2048

Thumbnail = npt.NDArray[np.uint8]


def thumbnail(grey: npt.NDArray[Any]) -> Thumbnail:
    """Return the mean of each of 32 x 32 cells of a grey image, uint8; a smaller image repeats pixels."""
    cells: npt.NDArray[Any] = grey
    for axis in (0, 1):
        size = cells.shape[axis]
        edges = np.arange(SIDE + 1) * size // SIDE
        # reduceat gives a cell without pixels (an image of less than 32) the one that it starts at
        sums = np.add.reduceat(cells, edges[:-1], axis=axis, dtype=np.float32)
        shape = (-1, 1) if axis == 0 else (1, -1)
        cells = sums / np.maximum(np.diff(edges), 1).reshape(shape)
    return np.asarray(np.rint(cells), np.uint8)


def bits(picture: Thumbnail) -> npt.NDArray[np.bool_]:
    """Return the perceptual hash of a thumbnail: 63 bits."""
    low = _cosines() @ picture.astype(np.float32) @ _cosines().T
    values = low.reshape(-1)[1:]
    return np.asarray(values > np.median(values))


@cache
def _cosines() -> npt.NDArray[np.float32]:
    """Return the first rows of the DCT-II matrix of 32 points."""
    angle = np.pi / SIDE * np.outer(np.arange(LOW), np.arange(SIDE) + 0.5)
    return np.cos(angle).astype(np.float32)


def alike(pictures: Sequence[Thumbnail]) -> list[tuple[int, int]]:
    """Return the pairs (i, j), i < j, of near duplicates among thumbnails: `MOST` of them at most.

    All pairs of hashes are compared, as products of matrices of +1 and -1: 70,000 images take some seconds.
    """
    if not pictures:
        return []
    flat = np.stack(pictures).reshape(len(pictures), -1)
    signs = np.stack([bits(picture) for picture in pictures]).astype(np.float32) * 2 - 1
    least = signs.shape[1] - 2 * RADIUS
    pairs: list[tuple[int, int]] = []
    for row in range(0, len(signs), _BLOCK):
        for column in range(row, len(signs), _BLOCK):
            close = signs[row : row + _BLOCK] @ signs[column : column + _BLOCK].T >= least
            first, second = np.nonzero(close)
            first, second = first + row, second + column
            ordered = first < second
            pairs += _confirmed(flat, first[ordered], second[ordered], MOST - len(pairs))
            if len(pairs) >= MOST:
                return sorted(pairs)
    return sorted(pairs)


def _confirmed(
    flat: npt.NDArray[np.uint8], first: npt.NDArray[np.intp], second: npt.NDArray[np.intp], most: int
) -> list[tuple[int, int]]:
    """Return the first `most` of the pairs whose thumbnails, rows of `flat`, correlate well enough."""
    found: list[tuple[int, int]] = []
    for start in range(0, len(first), _BLOCK):
        i, j = first[start : start + _BLOCK], second[start : start + _BLOCK]
        good = correlation(flat[i], flat[j]) >= ALIKE
        found += zip(i[good].tolist(), j[good].tolist(), strict=True)
        if len(found) >= most:
            return found[:most]
    return found


def correlation(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return how alike each row of `first` is to the same row of `second`, -1 to 1 (N x pixels each).

    A flat picture has no shape to compare: with it the result is 1 where both are of the same grey, else 0.
    """
    a, b = first.astype(np.float32), second.astype(np.float32)
    mean_a, mean_b = a.mean(axis=1), b.mean(axis=1)
    a, b = a - mean_a[:, None], b - mean_b[:, None]
    scale = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    same = ((a == 0).all(axis=1) & (b == 0).all(axis=1) & (mean_a == mean_b)).astype(np.float32)
    return np.asarray(np.where(scale > 0, (a * b).sum(axis=1) / np.where(scale > 0, scale, 1), same))
