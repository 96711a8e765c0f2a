"""Classes that the pretrained network knows already: its own classifier as a prior for the probe.

Ants and bees are classes of ImageNet. Some hundred images cannot teach a probe what a million taught the
classifier that is thrown away with the old head; so the logits of the pretrained classes that answer most
for each of our classes stand beside the features, weighted so that regularisation hardly touches them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tledge.evaluation.paired import log_softmax
from tledge.training.probe import Floats, Labels, Probe

SPREAD = 30.0  # of the prior's logits against that of the features
KNOWN = 2 / 3  # of the images must be right by the pretrained classes alone, else nothing is tried
GAIN = 0.9  # the loss must fall to this part: the choice is made on some hundred images


@dataclass(frozen=True)
class Relatives:
    """The pretrained class of each of ours (`classes`), and its logits as a map of features.

    The columns beside features N x D are features @ weight.T + bias, N x classes.
    """

    classes: tuple[int, ...]
    weight: Floats
    bias: Floats

    def widen(self, features: Floats) -> Floats:
        """Return features N x D with the columns beside them."""
        return np.concatenate([features, features @ self.weight.T + self.bias], axis=1).astype(np.float32)

    def folded(self, wide: Probe) -> Probe:
        """Return a probe that was fitted on widened features as one of features alone."""
        count = self.weight.shape[1]
        own, prior = wide.weight[:, :count], wide.weight[:, count:]
        weight = np.asarray(own + prior @ self.weight, np.float32)
        bias = np.asarray(wide.bias + prior @ self.bias, np.float32)
        return dataclasses.replace(wide, weight=weight, bias=bias)


def find(head: tuple[Floats, Floats] | None, features: Floats, labels: Labels) -> Relatives | None:
    """Return the relatives of the classes among those of a pretrained head; None where there are none.

    Args:
        head: weight (pretrained classes x D) and bias of the pretrained classifier, if there is one.
        features: of the training images, N x D.
        labels: their classes; each class occurs.
    """
    if head is None:
        return None
    logits = features @ head[0].T + head[1]
    answers = np.exp(log_softmax(logits.astype(np.float64)))
    each = [int(answers[labels == label].mean(axis=0).argmax()) for label in range(int(labels.max()) + 1)]
    if len(set(each)) < len(each) or (logits[:, each].argmax(axis=1) == labels).mean() < KNOWN:
        return None
    weight, bias = head[0][each], head[1][each]
    weight, bias = weight - weight.mean(axis=0), bias - bias.mean()
    scale = SPREAD * float(features.std(axis=0).mean()) / float((features @ weight.T + bias).std())
    return Relatives(
        tuple(each), np.asarray(scale * weight, np.float32), np.asarray(scale * bias, np.float32)
    )


def better(wide: Probe, plain: Probe) -> bool:
    """Tell whether the probe with relatives is clearly better on what neither was fitted on."""
    return wide.loss is not None and plain.loss is not None and wide.loss < GAIN * plain.loss


def widened(relatives: Relatives, views: Sequence[Floats]) -> list[Floats]:
    """Return `Relatives.widen` of each view."""
    return [relatives.widen(view) for view in views]
