"""`--time`: as many epochs as fit, planned by the measured speed."""

from __future__ import annotations

import copy
import dataclasses
import math
import time

from tledge.progress import Progress
from tledge.training import features, loop
from tledge.training.clock import Clock
from tledge.training.material import Material
from tledge.training.settings import FinetuneSettings
from tledge.training.start import Start
from tledge.training.state import begin

TRIAL = 2  # steps that the speed is measured on, after as many to warm up
# Of what is left, for the epochs: a cosine schedule that is cut short loses its end, where it gains most.
SHARE = 0.85
MOST_EPOCHS = 30
EXPORT = 10.0  # seconds: the graph, its comparison with torch, and writing
MIXTURES, BACKENDS = 7, 3  # how often tune is looked at after the last epoch, and the eval images are scored


def planned(
    start: Start, material: Material, clock: Clock, scoring: int, settings: FinetuneSettings
) -> Start:
    """Return `start` with as many epochs as the clock leaves time for, and how they were planned.

    Args:
        start: with the probe's head, and the recipe of a run without a clock.
        material: what is trained on.
        clock: of the run; how much the end takes is written into it.
        scoring: how many images are scored at the end.
        settings: of the run; with `epochs` the plan has no more.
    """
    training, looking = _speed(start, material, frozen=settings.freeze == "backbone")
    epoch = len(material.train_on) * training + len(material.tune_on) * looking
    clock.reserve = (MIXTURES * len(material.tune_on) + BACKENDS * scoring) * looking + EXPORT
    fit = math.floor(SHARE * clock.left / epoch)
    # Without a probe's head the network has learnt nothing before its first epoch.
    count = max(0 if start.mixable else 1, min(fit, settings.epochs or max(MOST_EPOCHS, start.recipe.epochs)))
    if not start.recipe.epochs:
        count = 0  # the probe knows all that tune could tell
    material.progress.note(
        f"{clock.used:.0f} s of {clock.limit:.0f} are used: {count} epochs of {epoch:.0f} s before the end"
    )
    recipe = dataclasses.replace(start.recipe, epochs=count)
    plan = {
        "limit": clock.limit,
        "used": round(clock.used, 1),
        "reserve": round(clock.reserve, 1),
        "probe": start.mixable,
    }
    chosen = start.chosen | {"recipe": dataclasses.asdict(recipe), "time": plan}
    return dataclasses.replace(start, recipe=recipe, chosen=chosen)


def _speed(start: Start, material: Material, *, frozen: bool) -> tuple[float, float]:
    """Return the seconds that an image takes in training, and when it is looked at."""
    count = min(len(material.train_on), TRIAL * start.recipe.batch_size)
    few = dataclasses.replace(material, train_on=material.train_on[:count], progress=Progress.silent())
    # On a copy: the run's own weights, and so its bits, do not depend on having been measured.
    network = copy.deepcopy(start.network)
    network.body.requires_grad_(not frozen)
    state = begin(network, start.recipe)
    times = []
    for _ in range(2):
        began = time.monotonic()
        loop.run_epoch(state, few, start.recipe, 1)
        times.append(time.monotonic() - began)
    began = time.monotonic()
    features.over(state.averaged.eval(), few, few.train_on, title="speed")
    return times[-1] / count, (time.monotonic() - began) / count
