"""The rate, found by trying: a few steps at each of three, judged on tune.

How far a pretrained network has to move hangs on how far the images are from those that it knows. Photographs
want a gentle rate, which keeps what it knows; traffic signs want ten times as much, in all layers, and batch
norms that learn the statistics of the new images. A linear probe tells which case is likely: where it is
right for nine of ten tune images the features serve already, and the gentle rate is taken without a trial.
Elsewhere each pace is run for `STEPS` steps of a whole schedule, warm-up to zero, on the same images (a range
test with an end: the loss while a rate only rises rewards rates that are not yet too high, not those that
teach most: Smith, 2017).
"""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tledge.errors import UsageError
from tledge.models import Network
from tledge.progress import Progress
from tledge.training import balance, features
from tledge.training.choosing import clearly_worse, tempered_losses
from tledge.training.choosing import top1 as percent
from tledge.training.distributed import ALONE
from tledge.training.loop import run_epoch
from tledge.training.material import Material
from tledge.training.settings import FinetuneSettings
from tledge.training.state import Recipe, begin

STEPS = 64
SERVES = 90.0  # percent of tune that a probe gets right where the features serve as they are
WORTH = 4  # epochs; the trial takes the time of two or so
STATISTICS = 16  # images of a batch that batch norm can take statistics of


@dataclass(frozen=True)
class Pace:
    """How fast a network is moved: times the gentle rate, the first layers' share of it, its batch norms."""

    times: float
    lowest_rate: float
    batch_norm: str


# Beside the gentle one, which is the recipe as it is.
PACES = (Pace(10.0, 0.5, "batch"), Pace(3.0, 0.5, "frozen"))


def wanted(recipe: Recipe, settings: FinetuneSettings, material: Material, probe_top1: float) -> bool:
    """Tell whether a trial is worth its time; a rate, a time or an optimiser that was asked for is kept."""
    return (
        bool(material.tune_on)
        and probe_top1 < SERVES
        and recipe.epochs >= WORTH
        and recipe.batch_norm == "frozen"
        and settings.method == "finetune"
        and settings.freeze == "none"
        and settings.optimizer == "adamw"
        and settings.lr is None
        and settings.time is None
    )


def run(network: Network, material: Material, recipe: Recipe) -> tuple[Recipe, list[dict[str, Any]]]:
    """Return the recipe at the pace that tune speaks for, and what each came to.

    The gentle pace is kept unless it is clearly worse than the best. Random numbers come from the recipe's
    seed alone, so that the trial repeats.
    """
    tried = [recipe]
    for pace in PACES:
        if pace.batch_norm == "frozen" or recipe.batch_size >= STATISTICS:
            rate = recipe.lr * pace.times
            tried.append(
                dataclasses.replace(recipe, lr=rate, lowest_rate=pace.lowest_rate, batch_norm=pace.batch_norm)
            )
    weights = balance.weights(material.tune_labels, recipe.logit_adjust)
    # Images stand class by class, so that every so-many-th of them holds each class in proportion.
    images = material.train_on[:: -(-len(material.train_on) // (STEPS * recipe.batch_size))]
    quiet = dataclasses.replace(material, train_on=images, team=ALONE, watch=None, progress=Progress.silent())
    tries = []
    with material.progress.task("trying rates", total=len(tried)) as task:
        for one in tried:
            tries.append(_Try(one, *_after(network, quiet, one, weights)))
            task.advance()
    best = min(tries, key=lambda one: one.loss)
    if not clearly_worse(tries[0].losses, tries[0].top1, best.losses, best.top1):
        best = tries[0]
    material.progress.note(
        "rates tried: "
        + ", ".join(f"{one.recipe.lr:g} {one.top1:.1f} %" for one in tries)
        + f" of tune; {best.recipe.lr:g} is taken, batch norms {best.recipe.batch_norm}"
    )
    figures = [
        {
            "lr": one.recipe.lr,
            "batch_norm": one.recipe.batch_norm,
            "tune_loss": round(one.loss, 4) if math.isfinite(one.loss) else None,
            "tune_top1": round(one.top1, 2),
        }
        for one in tries
    ]
    return best.recipe, figures


@dataclass(frozen=True)
class _Try:
    """What a recipe came to: the loss of each tune image, and the percentage that it gets right."""

    recipe: Recipe
    losses: list[float]
    top1: float

    @property
    def loss(self) -> float:
        return sum(self.losses) / len(self.losses)


def _after(
    network: Network, material: Material, recipe: Recipe, weights: NDArray[np.float64]
) -> tuple[list[float], float]:
    """Return each tune image's loss, and the right answers in percent, after the steps of a trial."""
    short = dataclasses.replace(recipe, epochs=1)
    state = begin(copy.deepcopy(network), short)
    try:
        run_epoch(state, material, short, 1)
    except UsageError:  # the loss is not a number any more: a rate that is not to be taken, no mistake
        return [math.inf] * len(material.tune_on), 0.0
    (logits,) = features.over(state.network.eval(), material, material.tune_on, title="trial")
    losses = tempered_losses(logits, material.tune_labels, weights).tolist()
    return losses, percent(logits, material.tune_labels, weights)
