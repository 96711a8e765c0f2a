"""The linear probe: multinomial logistic regression on frozen features, its regularisation chosen on tune."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tledge.training.choosing import tempered_loss

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

# Inverse strengths, strongest first, for features scaled to unit spread; half decades, since the loss on tune
# is flat within one.
STRENGTHS = tuple(float(c) for c in np.geomspace(1e-4, 10, 11))
WITHOUT_TUNE = 0.01  # the middle of what small photo sets choose
ITERATIONS = 200
SEARCH_ON = 10_000  # images; the choice does not need more, and takes eleven fits


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
    search: bool = True,
) -> Probe:
    """Return the probe fitted on features of the training images.

    Args:
        views: features of the same images, N x D each: as they are, and mirrored.
        labels: N class indices; each class occurs.
        tune_views: features of the tune images, M x D; the first is what choices are made on. M may be 0.
        tune_labels: M class indices.
        classes: how many there are.
        search: whether the regularisation is chosen on tune; else it is of middling strength.
    """
    features, repeated = np.concatenate(views), np.tile(labels, len(views))
    centre = features.mean(axis=0)
    # One scale for all, so that the features keep their own proportions: scaling each to unit spread lets
    # noise speak as loud as what tells flowers apart (1 point less on flowers' tune).
    spread = float(features.std(axis=0).mean()) or 1.0
    scaled = (features - centre) / spread
    strength, loss = WITHOUT_TUNE, None
    if len(tune_labels) and search:
        held_out = (tune_views[0] - centre) / spread
        step = max(1, len(scaled) // SEARCH_ON)
        found = []
        for candidate in STRENGTHS:
            weight, bias = _regression(scaled[::step], repeated[::step], candidate, classes)
            logits = np.asarray(held_out @ weight.T + bias, np.float32)
            found.append((tempered_loss(logits, tune_labels), candidate))
            if len(found) > 2 and found[-1][0] > found[-2][0] > found[-3][0]:
                break  # worse twice in a row: weaker regularisation only gets slower
        loss, strength = min(found)
    weight, bias = _regression(scaled, repeated, strength, classes)
    weight = weight / spread
    return Probe(weight.astype(np.float32), (bias - weight @ centre).astype(np.float32), strength, loss)


def _regression(features: Floats, labels: Labels, strength: float, classes: int) -> tuple[Floats, Floats]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    model = LogisticRegression(C=strength, max_iter=ITERATIONS)
    # One thread: BLAS's own spin while they wait, and took 5 to 80 times as long on two busy cores.
    with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"):
        # Where 200 iterations are not enough the regularisation is weaker than anything tune chooses.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features, labels)
    weight = np.zeros((classes, features.shape[1]), np.float32)
    bias = np.full(classes, -30.0, np.float32)  # a class that the thinned-out search did not meet
    if len(model.classes_) == 2 and model.coef_.shape[0] == 1:
        weight[model.classes_] = np.concatenate([-model.coef_, model.coef_]) / 2
        bias[model.classes_] = np.concatenate([-model.intercept_, model.intercept_]) / 2
    else:
        weight[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
    return weight, bias
