"""Every setting of `tledge finetune`, on one screen, each default with its reason."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any, get_args

from tledge.errors import UsageError, nearest
from tledge.preprocess.spec import Jpeg, Order

METHODS = ("finetune", "probe")
FREEZES = ("none", "backbone")
OPTIMIZERS = ("adamw", "sgd")
DEVICES = ("auto", "cpu", "cuda")
MAGNITUDE = 0.5
DECODES = get_args(Jpeg)
ORDERS = get_args(Order)
USUAL_BATCH = 32


@dataclass(frozen=True)
class FinetuneSettings:
    """What a run is made with. None: a rule decides (docs/training.md); the bundle says what it chose."""

    backbone: str = "efficientnet-lite0"  # made for INT8: ReLU6 and no squeeze-and-excitation
    weights: str = "pretrained"  # a few thousand images teach a head, not a network
    from_bundle: str | None = None  # the backbone's own weights, unless a bundle is named
    qat: bool = False  # for networks that lose too much to calibration alone: it costs a training run
    method: str = "finetune"  # 2 to 3 points above the probe, for minutes instead of seconds
    freeze: str = "none"  # all weights: the probe's head makes it safe from the first step
    head: str = "linear"  # all that pooled features of a pretrained network need
    pool: str = "avg"  # what the weights were trained with
    image_size: int | None = None  # what the weights were trained with
    decode: Jpeg | None = None  # exact; or what the bundle of --from has: it changes bits, so it is asked for
    frames: Order | None = (
        None  # convert-first: a frame gives what the picture of it would; or as --from, likewise
    )
    epochs: int | None = None  # 8, more where that is less than 300 steps, 30 at most
    time: float | None = None  # seconds; as long as the epochs take, or as many epochs as fit
    batch_size: int | None = None  # 32: enough steps on a small set, no slower on a CPU; tledge:mlp: 128
    optimizer: str = "adamw"  # forgives a rate that is three times off; sgd where a recipe says so
    lr: float | None = None  # 3e-4 pretrained, 2e-3 from scratch, tledge:mlp 1e-3; sgd: 0.01 and 0.05
    weight_decay: float | None = None  # adamw: 0.02 (0.01 to 0.05 are alike within the noise); sgd: 5e-4
    lowest_rate: float = 0.1  # the first layers see edges and colours in every data set: they move least
    warmup: float = 0.1  # share of the steps; Adam's second moments are noise before
    label_smoothing: float = 0.1  # Szegedy et al. (2016); keeps logits small, which INT8 likes
    logit_adjust: float | None = None  # 1 where the largest class is 5 times the smallest, else 0
    operations: int = 1  # RandAugment with one mild operation an image: small sets need crops more
    magnitude: float | None = None  # MAGNITUDE, half of the paper's full strength; all where images are far
    patience: int = 4  # epochs without a gain on tune; a cosine schedule gains most at its end
    seed: int = 0  # the same seed gives the same bits on a CPU
    workers: int | None = None  # one thread a core decodes ahead; they do not change the result
    device: str = "auto"  # a GPU where there is one
    tensorboard: str | None = None  # the history is in the bundle; event files only where somebody looks
    cache: bool = True  # features of the same images by the same weights have the same bits
    skip_bad: bool = False  # more than 1 % bad images is a mistake worth a look
    train_images: int | None = None  # all there are; fewer ask what a smaller set would have given
    shots: int | None = None  # all images; or so many of each class, to see what a handful would give
    eval_images: int = 1000  # a 95 % interval of 2 points, in some tens of megabytes

    def __post_init__(self) -> None:
        for name, known in (
            ("method", METHODS),
            ("freeze", FREEZES),
            ("optimizer", OPTIMIZERS),
            ("device", DEVICES),
        ):
            if getattr(self, name) not in known:
                hint = nearest(getattr(self, name), known)
                raise UsageError(f"unknown {name} {getattr(self, name)!r}", hint=hint)
        for name, known in (("decode", DECODES), ("frames", ORDERS)):
            value = getattr(self, name)
            if value is not None and value not in known:
                raise UsageError(f"unknown {name} {value!r}", hint=nearest(value, known))
        for name, least in (
            ("epochs", 1),
            ("batch_size", 1),
            ("train_images", 1),
            ("shots", 1),
            ("eval_images", 0),
            ("operations", 0),
            ("seed", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"{name} is {value}", hint=f"It is {least} or more.")
        if self.qat:
            self._check_qat()
        if self.logit_adjust is not None and not 0 <= self.logit_adjust <= 2:
            raise UsageError(f"logit_adjust is {self.logit_adjust}", hint="It is 0 (none) to 2; 1 balances.")
        if self.time is not None:
            self._check_time()
        if self.magnitude is not None and not 0 <= self.magnitude <= 1:
            raise UsageError(f"magnitude is {self.magnitude}", hint="It is 0 (crops alone) to 1.")
        if self.shots is not None and (self.qat or self.head != "linear" or self.train_images is not None):
            raise UsageError(
                "--shots fits a linear head on frozen features of a few images",
                hint="Leave --qat, --head and --train-images out.",
            )
        if self.tensorboard is not None and self.method == "probe":
            raise UsageError("a probe has no epochs to show in TensorBoard", hint="Leave --tensorboard out.")
        if self.lr is not None and not self.lr > 0:
            raise UsageError(f"lr is {self.lr}", hint="It is above 0.")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"workers is {self.workers}", hint="It is 1 or more.")

    def _check_qat(self) -> None:
        if self.from_bundle is None:
            raise UsageError("--qat needs a trained network", hint="Name its bundle with --from.")
        for name in ("weights", "method", "freeze", "head", "pool", "image_size"):
            default = next(field.default for field in dataclasses.fields(self) if field.name == name)
            if getattr(self, name) != default:
                raise UsageError(
                    f"--qat keeps the network as it is, and {name} {getattr(self, name)!r} was asked for",
                    hint="Change the network first, by a run without --qat; then train that one with --qat.",
                )

    def _check_time(self) -> None:
        if self.time is not None and not self.time > 0:
            raise UsageError(f"time is {self.time}", hint="It is above 0, in seconds.")
        if self.qat or self.method == "probe":
            what = "--qat" if self.qat else "a probe"
            raise UsageError(f"{what} has no epochs to fit into --time", hint="Leave --time out.")

    @property
    def threads(self) -> int:
        """Return the number of threads that read and decode."""
        return self.workers or len(os.sched_getaffinity(0))


# What does not change the weights may differ when a run goes on.
FREE_ON_RESUME = ("workers", "device", "tensorboard", "cache")


def resumed(kept: dict[str, Any], asked: FinetuneSettings) -> FinetuneSettings:
    """Return the settings of a run that goes on: those it began with, which `asked` must not contradict.

    Raises:
        UsageError: a setting was given that differs from the one kept.
    """
    names = {field.name: field.default for field in dataclasses.fields(FinetuneSettings)}
    known = {name: value for name, value in kept.items() if name in names}
    for name, default in names.items():
        value = getattr(asked, name)
        if name not in FREE_ON_RESUME and value not in (default, known.get(name, default)):
            raise UsageError(
                f"the run began with {name} {known.get(name, default)!r}, and cannot go on with {value!r}",
                hint="Leave the setting out with --resume, or start anew with --force.",
            )
    return FinetuneSettings(**known | {name: getattr(asked, name) for name in FREE_ON_RESUME})
