"""Images that belong together: frames of one thing, and one photo twice. A split keeps them on one side.

Two signs tell, both within a class. Near duplicates (`likeness.alike`) belong together. So do files whose
names differ in the number after the last separator alone (`00012_00005.png`, `00012_00011.png`), but only
where the images agree: a name may number the things as well as their frames, and what proves it is that the
most alike other image of the class (small pictures in grey, pixel by pixel: frames share their light too)
bears the same name, far more often than chance would have it. That is so for 62 % of German traffic signs,
five frames of each (by chance for 5 %), but for 45 % of tiles named by the light alone (by chance for 16 %).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from tledge.data import likeness
from tledge.data.dataset import Sample
from tledge.data.likeness import Thumbnail

PROVEN = 0.5  # of the way from chance to always: traffic signs come to 0.6, the tiles to 0.3
JUDGED = 2000  # images of a class that are compared, each with all others
_NUMBERED = re.compile(r"(.*[^-_. /])[-_. ]+[0-9]+\.[^./]+")


def find(
    samples: Sequence[Sample], pictures: Mapping[str, Thumbnail], small: frozenset[str]
) -> dict[str, str]:
    """Return for each image that belongs together with others the least name of them; others are left out.

    Args:
        samples: those that are split.
        pictures: the thumbnails of those that can be read, by name.
        small: names of images that have a side under 32 pixels, whose twins are not looked for.
    """
    classes: dict[int, list[Sample]] = {}
    for sample in sorted(samples, key=lambda one: one.name):
        if sample.name in pictures:
            classes.setdefault(sample.label, []).append(sample)
    by_name = {sample.name: stem(sample) for members in classes.values() for sample in members}
    if not proven([[sample.name for sample in members] for members in classes.values()], by_name, pictures):
        by_name = dict.fromkeys(by_name)
    found: dict[str, str] = {}
    for members in classes.values():
        first: dict[str, str] = {}
        root = {sample.name: sample.name for sample in members}
        for sample in members:
            if (name := by_name[sample.name]) is not None:
                root[sample.name] = first.setdefault(name, sample.name)
        large = [sample.name for sample in members if sample.name not in small]
        for i, j in likeness.alike([pictures[name] for name in large]):
            _join(root, large[i], large[j])
        together = {name: _root(root, name) for name in root}
        sizes = Counter(together.values())
        found.update((name, one) for name, one in together.items() if sizes[one] > 1)
    return found


def stem(sample: Sample) -> str | None:
    """Return the name up to the last number of it, None where it has none after a separator."""
    numbered = None if sample.index is not None else _NUMBERED.fullmatch(sample.name)
    return None if numbered is None else numbered[1]


def proven(
    classes: Sequence[Sequence[str]], by_name: Mapping[str, str | None], pictures: Mapping[str, Thumbnail]
) -> bool:
    """Tell whether images of one stem are frames of one thing: by who is most alike to whom in its class."""
    same, chance, asked = 0.0, 0.0, 0
    for members in classes:
        taken = [name for name in members if by_name[name] is not None][:JUDGED]
        stems = Counter(by_name[name] for name in taken)
        if len(stems) < 2:
            continue  # one stem alone: nothing to compare it with
        flat = np.stack([pictures[name] for name in taken]).reshape(len(taken), -1).astype(np.float32)
        squares = (flat * flat).sum(axis=1)
        likenesses = 2 * flat @ flat.T - squares[:, None] - squares
        np.fill_diagonal(likenesses, -np.inf)
        for name, nearest in zip(taken, likenesses.argmax(axis=1), strict=True):
            if stems[by_name[name]] > 1:
                asked += 1
                same += by_name[taken[nearest]] == by_name[name]
                chance += (stems[by_name[name]] - 1) / (len(taken) - 1)
    return asked > 0 and same - chance >= PROVEN * (asked - chance)


def _root(root: dict[str, str], name: str) -> str:
    while root[name] != name:
        name = root[name]
    return name


def _join(root: dict[str, str], first: str, second: str) -> None:
    first, second = sorted((_root(root, first), _root(root, second)))
    root[second] = first
