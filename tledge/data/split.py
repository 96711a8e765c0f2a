"""Splits that depend on the seed and on names alone: never on the order in which a folder is listed.

Within each class the samples are ordered by the SHA-256 of purpose, seed and name, and the first ones are
taken. Adding an image so moves no other image of its class across, but for the one on the edge.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tledge.data.dataset import Dataset, Sample
from tledge.errors import InputError

VAL = 0.2
TUNE = 0.1
TUNE_NEEDS = 3  # with fewer images of a class, each one is worth more in training than in choosing


@dataclass(frozen=True)
class Parts:
    """What a training run works on: `tune` makes every choice, `scoring` (the split named) only scores.

    `together` gives the group of each image whose group was kept on one side, by name.
    """

    train: tuple[Sample, ...]
    tune: tuple[Sample, ...]
    scoring: tuple[Sample, ...]
    scoring_name: str
    together: Mapping[str, str] = field(default_factory=dict)


def stratified(
    samples: Sequence[Sample], fraction: float, seed: int
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Return (kept, part): `part` is `fraction` of each class, rounded, each in the order of `samples`.

    A class of two or more gives at least one image, and keeps at least one; a class of one keeps it.
    """
    if not 0 < fraction < 1:
        raise InputError(f"a split takes a fraction between 0 and 1, not {fraction}")
    return _take(samples, f"val {seed}", lambda count: min(max(1, round(fraction * count)), count - 1))


def tune(
    samples: Sequence[Sample],
    seed: int,
    fraction: float = TUNE,
    together: Mapping[str, str] | None = None,
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Return (train, tune): what is trained on, and what every choice is made on.

    A class of three or more gives at least one image and at most a third; a smaller class gives none. Images
    of one group stay on one side: `together` gives the group of each that is in one, by name. A class in
    which each group is more than a third gives none; one without groups is split as without `together`.
    """
    if not 0 < fraction < 1:
        raise InputError(f"tune takes a fraction between 0 and 1, not {fraction}")

    def share(count: int) -> int:
        return min(max(1, round(fraction * count)), count // 3) if count >= TUNE_NEEDS else 0

    if not together:
        return _take(samples, f"tune {seed}", share)
    taken: set[str] = set()
    for members in _by_class(samples).values():
        taken.update(_whole_groups(members, f"tune {seed}", share(len(members)), together))
    kept = tuple(sample for sample in samples if sample.name not in taken)
    return kept, tuple(sample for sample in samples if sample.name in taken)


def _whole_groups(
    members: Sequence[Sample], purpose: str, count: int, together: Mapping[str, str]
) -> set[str]:
    """Return the names of about `count` images of a class, whole groups of it, at most a third of its images.

    In a seeded order every group is taken that leaves the number nearer to `count` than it was.
    """
    groups: dict[str, list[str]] = {}
    for sample in members:
        groups.setdefault(together.get(sample.name, sample.name), []).append(sample.name)
    taken: set[str] = set()
    for name in sorted(groups, key=lambda name: _drawn(purpose, name)):
        size = len(groups[name])
        nearer = 2 * (count - len(taken)) >= size or (count and not taken)
        if nearer and 3 * (len(taken) + size) <= len(members):
            taken.update(groups[name])
    return taken


def at_most(samples: Sequence[Sample], count: int, seed: int) -> tuple[Sample, ...]:
    """Return at most `count` samples, each class in proportion, in the order of `samples`.

    While there is room every class has one; what rounding leaves over goes to the largest remainders.
    """
    if count >= len(samples):
        return tuple(samples)
    sizes = {label: len(members) for label, members in _by_class(samples).items()}
    if count < len(sizes):
        shares = {label: int(place < count) for place, label in enumerate(sorted(sizes))}
    else:
        room, spare = count - len(sizes), len(samples) - len(sizes)
        exact = {label: divmod(room * (size - 1), spare) for label, size in sizes.items()}
        order = sorted(sizes, key=lambda label: (-exact[label][1], label))
        left = room - sum(whole for whole, _ in exact.values())
        shares = {label: 1 + exact[label][0] + (label in order[:left]) for label in sizes}
    return _take_shares(samples, f"at most {seed}", shares)[1]


def with_val(dataset: Dataset, seed: int, fraction: float = VAL) -> Dataset:
    """Return the data set with a val split: its own, or where none scores, a seeded part of train."""
    if dataset.scoring is not None or not dataset.train:
        return dataset
    train, val = stratified(dataset.train, fraction, seed)
    return dataset.replace(train=train, val=val)


def parts(
    dataset: Dataset, seed: int, fraction: float = TUNE, together: Mapping[str, str] | None = None
) -> Parts:
    """Return what a run trains on, chooses on and scores on; `with_val` first where nothing scores.

    Where there are val *and* test, val is tune: it was set aside for choices by whoever split the data. Else
    tune is a seeded part of train, with groups (`together`, see `tune`) on one side; where they leave no tune
    at all, one by image.

    Raises:
        InputError: there is no train split, or none that scores.
    """
    name = dataset.scoring
    if name is None or not dataset.train:
        lacking = "train" if not dataset.train else "val or test"
        raise InputError(f"{dataset.root} has no {lacking} split", path=dataset.root)
    if name == "test" and "val" in dataset.splits:
        return Parts(dataset.train, dataset.splits["val"], dataset.splits["test"], name)
    train, chosen = tune(dataset.train, seed, fraction, together)
    if together and not chosen:
        (train, chosen), together = tune(dataset.train, seed, fraction), None
    return Parts(train, chosen, dataset.splits[name], name, together or {})


def _by_class(samples: Sequence[Sample]) -> dict[int, list[Sample]]:
    members: dict[int, list[Sample]] = {}
    for sample in samples:
        members.setdefault(sample.label, []).append(sample)
    return members


def _take(
    samples: Sequence[Sample], purpose: str, share: Callable[[int], int]
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    shares = {label: share(len(members)) for label, members in _by_class(samples).items()}
    return _take_shares(samples, purpose, shares)


def _take_shares(
    samples: Sequence[Sample], purpose: str, shares: dict[int, int]
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    taken: set[str] = set()
    for label, members in _by_class(samples).items():
        drawn = sorted(members, key=lambda one: _drawn(purpose, one.name))
        taken.update(sample.name for sample in drawn[: shares[label]])
    kept = tuple(sample for sample in samples if sample.name not in taken)
    return kept, tuple(sample for sample in samples if sample.name in taken)


def _drawn(purpose: str, name: str) -> bytes:
    return hashlib.sha256(f"{purpose}\0{name}".encode()).digest()
