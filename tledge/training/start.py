"""The beginning of a run: the probe's head, and the augmentation that the data bear, both chosen on tune."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tledge.errors import UsageError
from tledge.evaluation.temperature import fit
from tledge.models import Network, is_scratch
from tledge.models.create import classifier, rebuild
from tledge.models.network import measure_features
from tledge.preprocess import Box
from tledge.training import balance, checkpoint, feature_cache, features, probe, relatives, suspects
from tledge.training.augment import Augmentation
from tledge.training.checkpoint import Checkpoint
from tledge.training.choosing import survives, top1
from tledge.training.material import Material
from tledge.training.settings import MAGNITUDE, USUAL_BATCH, FinetuneSettings
from tledge.training.state import Recipe

KIND = "start"
# How many of the tune images may lose their right answer under a change that is still worth training with.
FLIP_MAY_LOSE = 0.02
CROP_MAY_LOSE = 0.05
AREAS = (0.25, 0.5, 0.75)  # smallest part of the image in a random crop, strongest first
MILDEST = 0.9
# From scratch, with a fresh head of several layers, from the probe's head. SGD's decay is multiplied by its
# larger rate, so that it is smaller.
RATES = {"adamw": (2e-3, 1e-3, 3e-4), "sgd": (0.05, 0.02, 0.01)}
DECAYS = {"adamw": 0.02, "sgd": 5e-4}
# A perceptron has no convolutions: turned and sheared views are other inputs to it, learnt at images' cost.
# Its steps take mostly the optimiser's way through the weights: a batch is larger, and epochs are cheap.
PERCEPTRON, PERCEPTRON_BATCH, PERCEPTRON_RATE, PERCEPTRON_EPOCHS = "tledge:mlp", 128, 1e-3, 16
# Where the probe is right for less of tune than this (percent), the images are far from those of the
# pretraining: all layers have to move, at three times the rate, half of it at the first, on views that vary
# more. The mixture with the probe's weights, chosen on tune, bounds what that can cost.
SERVES, FAR_TIMES, FAR_LOWEST, FAR_MAGNITUDE = 75.0, 3.0, 0.5, 1.0
# Strong random crops show things larger than the test's centre crop does. Training at 6/7 of the size makes
# up for it (Touvron et al., 2019), and takes 27 % less time.
TRAIN_SCALE, TRAIN_STEP, SMALLEST_SCALED = 6 / 7, 16, 96


@dataclass(frozen=True)
class Start:
    """Where the epochs start: the network with its head, the recipe, and what was chosen and why."""

    network: Network
    recipe: Recipe
    mixable: bool
    chosen: dict[str, Any]


def make(network: Network, material: Material, settings: FinetuneSettings) -> Start:
    """Compute the features of all images, fit the probe into the network's head, and choose the recipe.

    Raises:
        InputError: an image cannot be read, or changed since the run began.
    """
    scratch = settings.from_bundle is None and is_scratch(settings.backbone, settings.weights)
    labels, tune_labels, tune_on = material.train_labels, material.tune_labels, material.tune_on
    body = network.eval().features
    # From scratch the probe only judges changes of the images, and its head is not kept.
    thin = -(-len(labels) // probe.SEARCH_ON) if scratch and settings.method == "finetune" else 1
    labels = labels[::thin]
    views = feature_cache.over(network, material, [*tune_on, *material.train_on[::thin]], keep=settings.cache)
    tune_views = [view[: len(tune_on)] for view in views]
    train_views = [view[len(tune_on) :] for view in views]
    classes = network.config["classes"]
    head = probe.fit(train_views[:1], labels, tune_views, tune_labels, classes, strength=probe.MIDDLING)
    flip = bool(tune_on) and (
        survives(head.logits(tune_views[0]), head.logits(tune_views[1]), tune_labels, FLIP_MAY_LOSE)
        and symmetric(train_views, tune_views)
    )
    head = probe.fit(train_views if flip else train_views[:1], labels, tune_views, tune_labels, classes)
    related = _relatives(network, settings, train_views[0], labels) if tune_on else None
    if related is not None:
        seen, held_out = (relatives.widened(related, some) for some in (train_views, tune_views))
        wide = probe.fit(seen if flip else seen[:1], labels, held_out, tune_labels, classes)
        if relatives.better(wide, head):
            head = related.folded(wide)
        else:
            related = None
    plain = head.logits(tune_views[0])
    adjust = balance.strength(material.train_labels, classes, settings.logit_adjust)
    chosen: dict[str, Any] = {
        "probe_strength": head.strength,
        "probe_tune_top1": round(top1(plain, tune_labels), 2) if tune_on else None,
        "temperature": round(fit(plain, tune_labels), 6) if tune_on else None,
        "relatives": None if related is None else list(related.classes),
        "flip": flip,
        "bf16": material.device.bf16,
        "logit_adjust": adjust,
    }
    if not scratch:  # the features of a network that has learnt nothing tell no class from another
        chosen["suspects"] = suspected(material, tune_views[0], train_views[0], classes, head.strength)
    known = related is not None and perfect(plain, tune_labels, settings)
    if known:
        material.progress.note(
            "the pretrained network knows these classes, and is right for all of tune: no epoch could be "
            "seen to do better, and none is run (--epochs N does)"
        )
    if settings.method == "probe" or known:
        # The body has seen none of the images, so the few weights of the head may see all of them: what is
        # chosen on tune later, of INT8, is about the body.
        everything = np.concatenate([tune_labels, labels])
        seen = views if flip else views[:1]
        if related is not None:
            seen = relatives.widened(related, seen)
        head = probe.fit(seen, everything, tune_views, tune_labels, classes, strength=head.strength)
        head = head if related is None else related.folded(head)
    area, squash = MILDEST, isinstance(material.prepare.spec.geometry, Box)
    perceptron = network.config["backbone"] == PERCEPTRON
    operations = 0 if perceptron else settings.operations
    magnitude = MAGNITUDE if settings.magnitude is None else settings.magnitude
    if settings.method == "finetune" and tune_on and not (perceptron or known):
        for area in (*AREAS, MILDEST):
            how = Augmentation(area, False, operations, magnitude, squash)
            (cropped,) = features.over(body, material, tune_on, title=f"crops down to {area:.0%}", how=how)
            if area == MILDEST or survives(plain, head.logits(cropped), tune_labels, CROP_MAY_LOSE):
                break
    # A network that has learnt nothing keeps its own small head: the probe's would drown its first steps.
    if settings.head == "linear" and not (scratch and settings.method == "finetune"):
        with torch.no_grad():
            network.linear.weight.copy_(torch.from_numpy(head.weight))
            # The loss adds the shifts: with them the network starts as the probe answers.
            bias = head.bias - balance.shifts(labels, classes, adjust)
            network.linear.bias.copy_(torch.from_numpy(bias))
    how = Augmentation(area, flip, operations, magnitude, squash)
    recipe = _recipe(network, settings, len(material.train_on), scratch, how=how, adjust=adjust)
    if known:
        recipe = dataclasses.replace(recipe, epochs=0)
    elif far(recipe, settings, scratch, top1(plain, tune_labels)):
        how = how if settings.magnitude is not None else dataclasses.replace(how, magnitude=FAR_MAGNITUDE)
        rate = recipe.lr * FAR_TIMES
        recipe = dataclasses.replace(recipe, lr=rate, lowest_rate=FAR_LOWEST, augmentation=how)
    chosen["recipe"] = dataclasses.asdict(recipe)
    material.progress.note(
        f"probe: {chosen['probe_tune_top1']} % of tune; mirror images {'keep' if flip else 'lose'} labels"
    )
    if settings.method == "finetune" and recipe.epochs:
        material.progress.note(
            f"{recipe.epochs} epochs at {recipe.size[0]} x {recipe.size[1]}, crops of {area:.0%} or more"
        )
    return Start(network, recipe, mixable(recipe, settings, scratch), chosen)


def far(recipe: Recipe, settings: FinetuneSettings, scratch: bool, probe_top1: float) -> bool:
    """Tell whether images are far from the pretraining's, where no rate was asked for that says so."""
    asked = settings.lr is not None or settings.optimizer != "adamw"
    return probe_top1 < SERVES and mixable(recipe, settings, scratch) and not asked


def mixable(recipe: Recipe, settings: FinetuneSettings, scratch: bool) -> bool:
    """Tell whether the network answers as the probe does before its epochs, and can be mixed with after."""
    return settings.head == "linear" and recipe.batch_norm == "frozen" and not scratch


def _relatives(
    network: Network, settings: FinetuneSettings, seen: features.Floats, labels: NDArray[np.int64]
) -> relatives.Relatives | None:
    """Return the pretrained classes that stand for ours, where the network has a pretrained head."""
    if settings.from_bundle is not None or settings.weights != "pretrained" or settings.pool != "avg":
        return None
    return relatives.find(classifier(settings.backbone, network), seen, labels)


def perfect(logits: features.Floats, labels: NDArray[np.int64], settings: FinetuneSettings) -> bool:
    """Tell whether the probe is right for all of tune, so that no epoch can be seen to do better.

    Where its classes are the pretraining's own, epochs on some hundred images then only forget: of ants and
    bees the probe knew more of val than the fine-tuned network did (98.0 and 95.4 %). Epochs that were asked
    for are run.
    """
    asked = settings.method == "finetune" and settings.epochs is None and settings.head == "linear"
    return asked and bool((logits.argmax(axis=1) == labels).all())


def suspected(
    material: Material, tune: features.Floats, train: features.Floats, classes: int, strength: float
) -> list[dict[str, Any]]:
    """Return the images whose labels may be wrong, in plain words, and say how many there are."""
    both = np.concatenate([material.tune_labels, material.train_labels])
    order = [*material.tune_on, *material.train_on]
    found = suspects.find(np.concatenate([tune, train]), both, classes, strength)
    if found:
        material.progress.note(
            f"{len(found)} of {len(both)} labels may be wrong: `tledge inspect B --suspects` lists them"
        )
    return [dataclasses.asdict(dataclasses.replace(one, index=order[one.index])) for one in found]


def symmetric(train_views: list[features.Floats], tune_views: list[features.Floats]) -> bool:
    """Tell whether images cannot be told from their mirror images, which training may then show as well.

    Lin et al. (2020), "Visual chirality": photographs of things look the same in a mirror, writing and signs
    do not. A probe learns the difference on train (features of the images and of their mirror images) and is
    asked about tune; it has found one where it is right more often than chance by two standard errors. On
    Lite0's features it is right for 51 % of flowers and 48 % of insects, and for 70 % of handwritten digits.
    """
    asked = len(tune_views[0])
    learnt = np.repeat(np.arange(2), len(train_views[0]))
    both = probe.fit(
        [np.concatenate(train_views)], learnt, tune_views, learnt[:0], 2, strength=probe.MIDDLING
    )
    answers = both.logits(np.concatenate(tune_views)).argmax(axis=1)
    right = float((answers == np.repeat(np.arange(2), asked)).mean())
    return right <= 0.5 + 1 / math.sqrt(asked)  # a standard error of chance is half of that


def _recipe(
    network: Network,
    settings: FinetuneSettings,
    images: int,
    scratch: bool,
    *,
    how: Augmentation,
    adjust: float,
) -> Recipe:
    fresh_head = settings.head != "linear"
    usual = RATES[settings.optimizer]
    default = usual[0] if scratch else usual[1] if fresh_head else usual[2]
    decay = DECAYS[settings.optimizer] if settings.weight_decay is None else settings.weight_decay
    perceptron = network.config["backbone"] == PERCEPTRON
    if perceptron and settings.optimizer == "adamw":
        default = PERCEPTRON_RATE
    batch = settings.batch_size or (PERCEPTRON_BATCH if perceptron else USUAL_BATCH)
    steps = max(1, round(images / batch))
    # Statistics of few images are noise, and those of the pretraining fit the probe's head.
    batch_norm = "batch" if scratch and batch > 1 else "frozen"
    return Recipe(
        epochs=settings.epochs or min(30, max(PERCEPTRON_EPOCHS if perceptron else 8, round(300 / steps))),
        batch_size=batch,
        lr=settings.lr or default,
        lowest_rate=1.0 if scratch else settings.lowest_rate,
        warmup=settings.warmup,
        weight_decay=decay,
        label_smoothing=settings.label_smoothing,
        size=_train_size(network, how),
        augmentation=how,
        batch_norm=batch_norm,
        patience=settings.patience,
        seed=settings.seed,
        optimizer=settings.optimizer,
        logit_adjust=adjust,
    )


def _train_size(network: Network, how: Augmentation) -> tuple[int, int]:
    """Return the size of training views: smaller than the spec's where crops are strong."""
    original_height, original_width = network.config["size"]
    size = original_height, original_width
    if min(size) < SMALLEST_SCALED or how.min_area > AREAS[0]:
        return size
    height, width = (round(side * TRAIN_SCALE / TRAIN_STEP) * TRAIN_STEP for side in size)
    cpu = rebuild(network.config).body
    try:
        fits = measure_features(cpu, (height, width)) == network.config["features"]
    except UsageError:
        fits = False
    return (height, width) if fits else size


def write(directory: Path, start: Start) -> None:
    """Keep the start, so that a resumed run needs neither weights nor features again."""
    checkpoint.write(directory / f"{KIND}-0000.safetensors", pack(start))


def read(directory: Path) -> Start | None:
    """Return the start that was kept, None without one."""
    stored = checkpoint.latest(directory, KIND)
    return None if stored is None else unpack(stored)


def pack(start: Start) -> Checkpoint:
    """Return the start as tensors and plain data."""
    data = {
        "config": start.network.config,
        "recipe": dataclasses.asdict(start.recipe),
        "mixable": start.mixable,
        "chosen": start.chosen,
    }
    return Checkpoint(start.network.state_dict(), data)


def unpack(stored: Checkpoint) -> Start:
    """Return the start that `pack` made this of."""
    network = rebuild(stored.data["config"])
    network.load_state_dict(stored.tensors)
    recipe = dict(stored.data["recipe"])
    height, width = recipe["size"]
    recipe |= {"size": (height, width), "augmentation": Augmentation(**recipe["augmentation"])}
    return Start(network.eval(), Recipe(**recipe), stored.data["mixable"], stored.data["chosen"])
