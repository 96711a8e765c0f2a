"""A classifier of a handful of images a class, and what to expect of it: `finetune --shots K`.

Two heads are tried on frozen features: the means of the classes as prototypes (J. Snell, K. Swersky, R.
Zemel, "Prototypical networks for few-shot learning", NeurIPS 2017), and the linear probe. The better is
chosen by cross-validation among the K images themselves; with one image a class there is nothing to validate
on, and prototypes are taken. Which images were drawn matters as much as the head does: the whole of it,
choice included, is repeated on other draws.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tledge.evaluation.images import EvalSet
from tledge.evaluation.temperature import fit as fit_temperature
from tledge.models import Network
from tledge.training import features, probe
from tledge.training.choosing import tempered_loss, top1
from tledge.training.contents import Found
from tledge.training.images import Images
from tledge.training.material import Material
from tledge.training.probe import Floats, Labels, Probe
from tledge.training.scores import torch_logits
from tledge.training.settings import FinetuneSettings

DRAWS = 20
STRENGTHS = (0.01, 0.1, 1.0)  # of the probe: few images speak for no finer choice
T95 = 2.093  # Student's t with 19 degrees of freedom, 97.5 %: of the mean of 20 draws


@dataclass(frozen=True)
class Head:
    """A head, what it is ("prototypes" or "probe"), and its temperature; None where nothing was held out."""

    plane: Probe
    kind: str
    temperature: float | None


def draw(labels: Labels, shots: int, number: int, seed: int) -> NDArray[np.intp]:
    """Return the indices of `shots` images of each class (all of a class that has fewer), class by class."""
    order = np.random.default_rng((seed, number)).permutation(len(labels))
    members = [order[labels[order] == label][:shots] for label in range(int(labels.max()) + 1)]
    return np.concatenate(members)


def first(found: Found, settings: FinetuneSettings) -> Found:
    """Return the data that the bundle is made of: with `shots` the first draw, and no tune, else all."""
    if settings.shots is None:
        return found
    samples = (*found.train, *found.tune)
    labels = np.array([sample.label for sample in samples], np.int64)
    taken = sorted(draw(labels, settings.shots, 0, settings.seed).tolist())
    return dataclasses.replace(found, train=tuple(samples[index] for index in taken), tune=())


def prototypes(rows: Floats, labels: Labels, classes: int) -> Probe:
    """Return the head that answers with the nearest mean of a class, by Euclidean distance.

    Of scaled features, so that its logits are of the size of a probe's. Linear: the square of the image's own
    features is the same for all classes.
    """
    spread = float(rows.std(axis=0).mean()) or 1.0
    middle = rows.mean(axis=0)
    means = np.stack([rows[labels == label].mean(axis=0) for label in range(classes)]) - middle
    scale = 2 / (spread**2 * math.sqrt(rows.shape[1]))
    weight = scale * means
    bias = -scale * (means**2).sum(axis=1) / 2 - weight @ middle
    return Probe(weight.astype(np.float32), bias.astype(np.float32), 0.0, None)


def choose(rows: Floats, labels: Labels, classes: int) -> Head:
    """Return the head with the least loss on images that it was not fitted on, fitted on all.

    Args:
        rows: features of the images drawn, N x D.
        labels: N class indices; each class occurs.
        classes: how many there are.
    """
    fewest = int(np.bincount(labels, minlength=classes).min())
    if fewest < 2:
        return Head(prototypes(rows, labels, classes), "prototypes", None)
    fold = probe.folds(labels, min(probe.FOLDS, fewest))
    truth = np.concatenate([labels[fold == one] for one in range(int(fold.max()) + 1)])
    found = []
    for number, strength in enumerate((None, *STRENGTHS)):
        logits = np.concatenate(
            [
                _fitted(rows[fold != one], labels[fold != one], classes, strength).logits(rows[fold == one])
                for one in range(int(fold.max()) + 1)
            ]
        )
        found.append((tempered_loss(logits, truth), number, strength, fit_temperature(logits, truth)))
    _, _, strength, temperature = min(found, key=lambda one: one[:2])
    kind = "prototypes" if strength is None else "probe"
    return Head(_fitted(rows, labels, classes, strength), kind, temperature)


def _fitted(rows: Floats, labels: Labels, classes: int, strength: float | None) -> Probe:
    if strength is None:
        return prototypes(rows, labels, classes)
    return probe.fit([rows], labels, [rows[:0]], labels[:0], classes, strength=strength)


def trained(
    network: Network, found: Found, material: Material, scoring: EvalSet, settings: FinetuneSettings
) -> tuple[Network, dict[str, Any]]:
    """Return the network with the head of the first draw, on the CPU, and what the other draws give.

    Args:
        network: whose body gives the features.
        found: the data with every image that may be drawn.
        material: of the bundle; only its means are used.
        scoring: what every draw is scored on.
        settings: with `shots`.
    """
    files, shots = found.train_files(), settings.shots or 1
    images = Images(files, found.dataset.root, material.images.spec)
    classes = network.config["classes"]
    # Where no class has more images than are drawn, there is only one draw.
    draws = DRAWS if np.bincount(images.labels).max() > shots else 1
    drawn = [draw(images.labels, shots, number, settings.seed) for number in range(draws)]
    union = np.unique(np.concatenate(drawn))
    place = features.place(network, material.device).eval()
    (rows,) = features.over(
        place.features, dataclasses.replace(material, images=images), union.tolist(), title="features"
    )
    body = Network(place.body, torch.nn.Identity(), place.config)
    asked = torch_logits(body, scoring, material.prepare, material.device, material.progress)
    heads, scores = [], []
    with material.progress.task("draws", total=draws, unit="draws") as task:
        for indices in drawn:
            where = np.searchsorted(union, indices)
            heads.append(choose(rows[where], images.labels[indices], classes))
            scores.append(top1(heads[-1].plane.logits(asked), scoring.expected))
            task.advance()
    with torch.no_grad():
        network.linear.weight.copy_(torch.from_numpy(heads[0].plane.weight))
        network.linear.bias.copy_(torch.from_numpy(heads[0].plane.bias))
    told = summary(scores, [head.kind for head in heads])
    material.progress.note(
        f"{shots} images a class, {draws} draws: {told['mean']:.2f} % "
        f"({told['low']:.2f} to {told['high']:.2f}) of {len(scoring)}; the bundle holds the first draw's head"
    )
    temperature = heads[0].temperature
    chosen = {"shots": told, "temperature": None if temperature is None else round(temperature, 6)}
    return network.cpu().eval(), chosen


def summary(scores: Sequence[float], kinds: Sequence[str]) -> dict[str, Any]:
    """Return mean top-1 over the draws in percent, its 95 % interval (Student's t), and each draw.

    With a single draw the interval is unknown, and given as the score itself.
    """
    mean = float(np.mean(scores))
    half = T95 * float(np.std(scores, ddof=1)) / math.sqrt(len(scores)) if len(scores) > 1 else 0.0
    return {
        "draws": len(scores),
        "mean": mean,
        "low": mean - half,
        "high": mean + half,
        "worst": min(scores),
        "best": max(scores),
        "head": kinds[0],
        "prototypes": list(kinds).count("prototypes"),
        "top1": [round(score, 4) for score in scores],
    }
