"""The linear probe: multinomial logistic regression on frozen features, its regularisation chosen on tune."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tledge.training.choosing import tempered_loss

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

# Inverse strengths, strongest first, for features scaled to unit spread; half decades, since the loss on tune
# is flat within one.
STRENGTHS = tuple(float(c) for c in np.geomspace(1e-3, 10, 9))
MIDDLING = 0.01  # the middle of what small photo sets choose
ITERATIONS = 200
ENOUGH_TUNE, FOLDS = 200, 5
SEARCH_ON = 10_000  # images; the choice does not need more, and takes up to nine fits


@dataclass(frozen=True)
class Probe:
    """A head: logits = features @ weight.T + bias; `strength` is the C chosen, `loss` its loss on tune."""

    weight: Floats  # classes x features
    bias: Floats  # classes
    strength: float
    loss: float | None

    def logits(self, features: Floats) -> Floats:
        """Return N x classes for N x features."""
        return np.asarray(features @ self.weight.T + self.bias, np.float32)


def fit(
    views: Sequence[Floats],
    labels: Labels,
    tune_views: Sequence[Floats],
    tune_labels: Labels,
    classes: int,
    *,
    strength: float | None = None,
) -> Probe:
    """Return the probe fitted on features of the training images.

    Args:
        views: features of the same images, N x D each: as they are, and mirrored.
        labels: N class indices; each class occurs.
        tune_views: features of the tune images, M x D; the first is what choices are made on. M may be 0.
        tune_labels: M class indices.
        classes: how many there are.
        strength: of the regularisation; None: chosen on tune, and where there is none, middling.
    """
    features, repeated = np.concatenate(views), np.tile(labels, len(views))
    centre = features.mean(axis=0)
    # One scale for all, so that the features keep their own proportions: scaling each to unit spread lets
    # noise speak as loud as what tells flowers apart (1 point less on flowers' tune).
    spread = float(features.std(axis=0).mean()) or 1.0
    scaled = (features - centre) / spread
    loss = None
    if strength is None and len(tune_labels):
        # Each view counts as a sample, so that so many views weaken the regularisation as much.
        first = scaled[: len(labels)]
        held_out = (tune_views[0] - centre) / spread
        loss, strength = _search(first, labels, held_out, tune_labels, classes=classes, views=len(views))
    strength = strength or MIDDLING
    model = _model()
    _fit(model, scaled, repeated, strength)
    weight, bias = _plane(model, features.shape[1], classes)
    weight = weight / spread
    return Probe(weight.astype(np.float32), (bias - weight @ centre).astype(np.float32), strength, loss)


def folds(labels: Labels, count: int) -> NDArray[np.intp]:
    """Return each image's fold: the k-th image of every class is in fold k modulo `count`."""
    found = np.empty(len(labels), np.intp)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        found[members] = np.arange(len(members)) % count
    return found


def held_out(features: Floats, labels: Labels, classes: int, *, strength: float = MIDDLING) -> Floats:
    """Return logits, N x classes, of features N x D: each image's by a probe of the other folds.

    They are 0 where the other folds do not hold two classes.
    """
    fold = folds(labels, FOLDS)
    logits = np.zeros((len(labels), classes), np.float32)
    for one in np.unique(fold):
        rest, own = np.flatnonzero(fold != one), fold == one
        if len(np.unique(labels[rest])) < 2:
            continue
        rest = rest[:: -(-len(rest) // SEARCH_ON)]
        head = fit([features[rest]], labels[rest], [features[:0]], labels[:0], classes, strength=strength)
        logits[own] = head.logits(features[own])
    return logits


def _search(
    features: Floats, labels: Labels, tune: Floats, tune_labels: Labels, *, classes: int, views: int
) -> tuple[float, float]:
    """Return (loss, strength) of the strength with the least loss on images that were not fitted.

    These are the tune images, and where they are few the training images too, each judged by a probe of the
    other folds: two dozen images would choose by chance.
    """
    step = max(1, len(features) // SEARCH_ON)
    features, labels = features[::step], labels[::step]
    everything = np.arange(len(labels))
    splits = [(everything, everything[:0])]
    if len(tune_labels) < ENOUGH_TUNE:
        fold = everything % FOLDS  # samples stand class by class, so that each fold has its share of each
        splits += [(everything[fold != one], everything[fold == one]) for one in range(FOLDS)]
    models = [_model() for _ in splits]
    found: list[tuple[float, float]] = []
    for strength in STRENGTHS:
        logits = []
        for model, (fitted, _) in zip(models, splits, strict=True):
            _fit(model, features[fitted], labels[fitted], strength * views)
        for model, (_, judged) in zip(models, splits, strict=True):
            weight, bias = _plane(model, features.shape[1], classes)
            logits.append(
                np.asarray((features[judged] if len(judged) else tune) @ weight.T + bias, np.float32)
            )
        truth = np.concatenate([tune_labels, *(labels[judged] for _, judged in splits)])
        found.append((tempered_loss(np.concatenate(logits), truth), strength))
        if len(found) > 2 and found[-1][0] > found[-2][0] > found[-3][0]:
            break  # worse twice in a row: weaker regularisation only gets slower
    return min(found)


def _model() -> Any:
    from sklearn.linear_model import LogisticRegression

    # Each strength starts from the last one's answer, which saves half of the iterations.
    return LogisticRegression(max_iter=ITERATIONS, warm_start=True)


def _fit(model: Any, features: Floats, labels: Labels, strength: float) -> None:
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    # One thread: BLAS's own spin while they wait, and took 5 to 80 times as long on two busy cores.
    with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"):
        # Where 200 iterations are not enough the regularisation is weaker than anything tune chooses.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.set_params(C=strength).fit(features, labels)


def _plane(model: Any, features: int, classes: int) -> tuple[Floats, Floats]:
    """Return weight and bias with one row a class, for two classes too."""
    weight = np.zeros((classes, features), np.float32)
    bias = np.full(classes, -30.0, np.float32)  # a class that the thinned-out search did not meet
    if len(model.classes_) == 2 and model.coef_.shape[0] == 1:
        weight[model.classes_] = np.concatenate([-model.coef_, model.coef_]) / 2
        bias[model.classes_] = np.concatenate([-model.intercept_, model.intercept_]) / 2
    else:
        weight[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
    return weight, bias
