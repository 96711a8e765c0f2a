"""Training images whose labels may be wrong, for a person to look at.

Confident learning (C. G. Northcutt, L. Jiang, I. L. Chuang, "Confident learning: estimating uncertainty in
dataset labels", JAIR 70, 2021), with the linear probe in the classifier's place: the features are there, and
five probes of other images take seconds. Nothing is left out of training by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tledge.bundle import Bundle, Writer
from tledge.bundle.records import Suspect, encode
from tledge.evaluation.paired import log_softmax
from tledge.evaluation.temperature import fit as fit_temperature
from tledge.training import probe
from tledge.training.probe import Floats, Labels

LEAST = probe.FOLDS  # images a class: with fewer, a probe without one of them hardly knows the class


@dataclass(frozen=True)
class Found:
    """One suspected image by its index: the class it looks like, and the probabilities of both classes."""

    index: int
    given: float
    suggested: int
    probability: float


def find(features: Floats, labels: Labels, classes: int, strength: float) -> list[Found]:
    """Return the images whose labels are suspected, the most suspected first.

    An image is suspected where, among the classes that it is given with at least the confidence that images
    of the class are given it on average, the most probable is not its label. They are sorted by how much more
    probable that class is than the label.

    Args:
        features: N x D, of the images as the spec wants them.
        labels: N class indices.
        classes: how many there are.
        strength: of the probe's regularisation, as chosen on tune.
    """
    counts = np.bincount(labels, minlength=classes)
    judged = np.flatnonzero(counts[labels] >= LEAST)
    if len(np.unique(labels[judged])) < 2:
        return []
    probabilities = held_out(features, labels, classes, strength)
    own = probabilities[np.arange(len(labels)), labels]
    # A class that cannot be judged is suggested to nobody.
    thresholds = np.full(classes, np.inf)
    for label in np.unique(labels[judged]):
        thresholds[label] = own[labels == label].mean()
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    best = confident.argmax(axis=1)
    suspected = judged[(confident.max(axis=1) > 0)[judged] & (best != labels)[judged]]
    found = [Found(int(i), float(own[i]), int(best[i]), float(probabilities[i, best[i]])) for i in suspected]
    return sorted(found, key=lambda one: one.given - one.probability)


def held_out(features: Floats, labels: Labels, classes: int, strength: float) -> NDArray[np.float64]:
    """Return each image's probabilities, N x classes, by a probe that was fitted without it.

    They are made at the temperature that suits them, so that they mean what they say.
    """
    logits = probe.held_out(features, labels, classes, strength=strength)
    return np.asarray(np.exp(log_softmax(logits / fit_temperature(logits, labels))))


def put(writer: Writer, bundle: Bundle, found: list[dict[str, Any]]) -> None:
    """Stage `suspects.json` of what `find` gave, each `Found` as a dictionary, its index a train file's."""
    files = bundle.train_files()
    rows = [
        Suspect(
            path=files[one["index"]].path,
            label=files[one["index"]].label,
            given=round(one["given"], 4),
            suggested=one["suggested"],
            probability=round(one["probability"], 4),
        )
        for one in found
    ]
    writer.put("suspects.json", encode(rows))
