"""Whether a run's answers are those that the ledger was made of: a fast network that is wrong is not fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tledge.bench.queries import queries
from tledge.bundle import Bundle, Row
from tledge.evaluation.images import of_bundle
from tledge.evaluation.stage import has_logits, read_logits
from tledge.runtime import Model
from tledge.runtime.backends import ENGINES

Positions = NDArray[np.int64]

# A library may add in another order for another batch. Where the ledger's logits of two classes differ by
# less than this share of the image's whole spread of logits, either answer is taken for the ledger's.
TIE = 0.01


@dataclass(frozen=True)
class Expected:
    """What is known of a run's images: the class of each, and the logits of the ledger's `stage`, or None."""

    truth: NDArray[np.intp]
    stage: str | None = None
    logits: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Accuracy:
    """The answers of a run, one an image: how many were right (`top1`, percent), how many not the ledger's.

    `wrong` and `ledger_top1` (on the same images) are None where the ledger has no such stage.
    """

    stage: str | None
    images: int
    top1: float
    ledger_top1: float | None
    wrong: int | None

    def as_dict(self) -> dict[str, Any]:
        """Return it as in the bench's JSON."""
        return {
            "stage": self.stage,
            "images": self.images,
            "top1": self.top1,
            "ledger_top1": self.ledger_top1,
            "wrong": self.wrong,
        }


def expected(bundle: Bundle, drawn: Sequence[int], variant: str, backend: str) -> Expected:
    """Return what is known of the eval images at the positions `drawn`.

    The ledger counts where it has logits for exactly the bundle's eval images, made with the graph that is
    there now.
    """
    images = of_bundle(bundle)
    truth = images.expected[list(drawn)]
    row = scored(bundle, variant, backend)
    if row is None or not has_logits(bundle, row.stage, images):
        return Expected(truth)
    return Expected(truth, row.stage, read_logits(bundle, row.stage)[list(drawn)])


def scored(bundle: Bundle, variant: str, backend: str) -> Row | None:
    """Return the ledger's row of a variant on a backend, made with the graph that is there now, or None."""
    rows = [row for row in bundle.ledger if (row.variant, row.backend) == (variant, backend)]
    rows = [r for r in rows if backend in ENGINES or r.file_sha256 == bundle.sha256(f"{variant}.onnx")]
    return rows[0] if len(rows) == 1 else None


def judge(images: Positions, answers: Positions, known: Expected) -> Accuracy:
    """Return how right the answers to `images` (positions in `known`) are; each image counts once."""
    images, first = np.unique(images.ravel(), return_index=True)
    answers = answers.ravel()[first]
    truth = known.truth[images]
    top1 = float((answers == truth).mean() * 100)
    if known.logits is None:
        return Accuracy(None, len(images), top1, None, None)
    logits = known.logits[images]
    best = logits.max(axis=1)
    given = logits[np.arange(len(images)), answers]
    wrong = best - given > TIE * (best - logits.min(axis=1))
    ledger_top1 = float((logits.argmax(axis=1) == truth).mean() * 100)
    return Accuracy(known.stage, len(images), top1, ledger_top1, int(wrong.sum()))


def of_every_image(bundle: Bundle, model: Model, per_query: int) -> Accuracy:
    """Answer every eval image of the bundle once, as MLPerf's accuracy mode does, in queries of that size."""
    entries = bundle.eval_images()
    everything = range(len(entries))
    known = expected(bundle, everything, model.variant, model.backend)
    answers: list[int] = []
    for start in everything[::per_query]:
        files = [bundle.read(entry.file) for entry in entries[start : start + per_query]]
        answers += queries(model, files, "jpeg")(range(len(files)))[0]
    return judge(np.arange(len(entries)), np.array(answers), known)
