"""What the bundle holds about each stage's answers, read once and checked against each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge.bundle import Bundle, EvalImage, Row, probabilities
from tledge.errors import BundleError, UsageError, nearest
from tledge.evaluation.images import of_bundle
from tledge.evaluation.paired import log_softmax
from tledge.evaluation.scores import check
from tledge.evaluation.stage import read_logits

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

# The stage that every other is made from; else the trained network; else whatever was scored first.
PREFERRED = ("fp32@onnxruntime", "torch")


@dataclass(frozen=True)
class Answers:
    """What one stage said about each eval image, in their order: logits, images x classes.

    `temperature` is what users' probabilities are made with: it divides the logits.
    """

    stage: str
    logits: npt.NDArray[np.float32]
    temperature: float = 1.0

    @cached_property
    def probabilities(self) -> Floats:
        """Return the softmax of the logits over the temperature, float64."""
        return np.exp(log_softmax(self.logits / self.temperature))

    @cached_property
    def best(self) -> Indices:
        """Return the class that each image was given; of equals the first, as everywhere in tledge."""
        return np.asarray(self.logits.argmax(axis=1), np.intp)

    @cached_property
    def confidence(self) -> Floats:
        """Return the probability of each image's answer, 0 to 1."""
        return np.asarray(self.probabilities.max(axis=1))


@dataclass(frozen=True)
class Evidence:
    """A bundle with its eval images and the answers of every stage that was scored on them."""

    bundle: Bundle
    labels: tuple[str, ...]
    images: tuple[EvalImage, ...]
    truth: Indices
    data_sha256: str | None
    rows: tuple[Row, ...]
    answers: dict[str, Answers] = field(default_factory=dict)

    def subject(self, stage: str | None = None) -> Answers | None:
        """Return the answers that confusion, classes, errors and reliability are shown for; None without any.

        Raises:
            UsageError: `stage` was asked for by name and has no answers in the bundle.
        """
        if stage is not None and stage not in self.answers:
            hint = nearest(stage, self.answers) if self.answers else "It keeps no answers of any stage."
            raise UsageError(f"{self.bundle.path} keeps no answers of a stage {stage!r}", hint=hint)
        order = [stage] if stage is not None else [*PREFERRED, *self.answers]
        return next((self.answers[name] for name in order if name in self.answers), None)

    def parent(self, row: Row) -> Answers | None:
        """Return the answers of the stage that `row` was made from, where they are kept."""
        return self.answers.get(row.parent) if row.parent else None


def gather(bundle: Bundle) -> Evidence:
    """Read labels, eval images, ledger and every stage's logits.

    Raises:
        BundleError: a file is damaged, or files contradict each other.
    """
    labels = bundle.labels if bundle.has("labels.txt") else ()
    images = bundle.eval_images()
    truth = np.array([image.label for image in images], np.intp)
    if len(truth) and not (truth.min() >= 0 and truth.max() < len(labels)):
        raise BundleError(
            f"{bundle.path}: eval/index.json counts classes that labels.txt does not name",
            hint="Make the bundle anew.",
            path=bundle.path,
        )
    data = of_bundle(bundle).data_sha256 if images else None
    answers = {}
    known = probabilities.read(bundle)
    for row in bundle.ledger:
        # A row of other images (data of the user's, in a bundle without eval images) has answers to those.
        if row.data_sha256 == data and bundle.has(f"logits/{row.stage}.npy"):
            logits = read_logits(bundle, row.stage)
            check(logits, truth)
            answers[row.stage] = Answers(row.stage, logits, known.temperature(row.variant))
    return Evidence(bundle, labels, images, truth, data, bundle.ledger, answers)


def document(bundle: Bundle, name: str) -> Any:
    """Return the JSON document `name` of the bundle, None where it holds none.

    Raises:
        BundleError: it is damaged.
    """
    import json

    if not bundle.has(name):
        return None
    try:
        return json.loads(bundle.read(name))
    except ValueError as error:
        raise BundleError(f"{name} of {bundle.path} is not JSON: {error}", path=bundle.path) from error
