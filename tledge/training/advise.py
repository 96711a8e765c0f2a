"""Which backbone? Measured on the data themselves, not guessed: `tledge advise`.

Each candidate's frozen features get a linear probe and a nearest-neighbour vote, both judged on tune, and its
graph is timed on this machine by turns with the others. Formulas that predict transfer from features have not
survived large studies (Agostinelli et al., "How stable are transferability metrics evaluations?", ECCV 2022);
a probe takes a minute and ranks what fine-tuning will reach.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tledge.bench.grid import front
from tledge.data.dataset import Dataset
from tledge.errors import InputError, MachineError, UsageError
from tledge.evaluation.scores import wilson
from tledge.export import to_onnx
from tledge.models import create
from tledge.preprocess import preprocessor
from tledge.progress import Progress
from tledge.runtime import Session, open_session
from tledge.training import contents, features, probe
from tledge.training.choosing import clearly_worse, tempered_losses, top1
from tledge.training.device import choose
from tledge.training.images import Images
from tledge.training.material import Material
from tledge.training.settings import FinetuneSettings

# Weights that come as packages, or are likely to be in torchvision's or timm's cache.
CANDIDATES = (
    *("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"),
    *("torchvision:mobilenet_v2", "torchvision:mobilenet_v3_large", "torchvision:resnet18"),
    *("torchvision:resnet50", "torchvision:regnet_y_400mf", "timm:mobilenetv4_conv_small.e2400_r224_in1k"),
)
BACKEND = "onnxruntime"
NEIGHBOURS = 10
ROUNDS = 40  # inferences of each, by turns
WARM_UP = 5


@dataclass(frozen=True)
class Advice:
    """One backbone: what its features are worth on tune, in percent with a 95 % interval, and what it costs.

    `infer_ms` is the median of one image's inference in float32, tensor to logits; `pareto` tells that no
    other is as good and faster, or better and as fast; `fits` that it is within the budget.
    """

    backbone: str
    image_size: int
    probe_top1: float
    probe_low: float
    probe_high: float
    knn_top1: float
    infer_ms: float
    graph_mib: float
    pareto: bool
    fits: bool


@dataclass(frozen=True)
class Advised:
    """All candidates, best first; the one to take (None: none is within the budget); what was left out."""

    advice: tuple[Advice, ...]
    chosen: str | None
    skipped: tuple[tuple[str, str], ...]
    train: int
    tune: int

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `tledge advise --json` prints."""
        skipped = [{"backbone": name, "reason": reason} for name, reason in self.skipped]
        return {**dataclasses.asdict(self), "skipped": skipped}


@dataclass(frozen=True)
class _Tried:
    backbone: str
    size: int
    losses: list[float]
    top1: float
    knn: float
    onnx: bytes
    shape: tuple[int, ...]


def advise(
    dataset: Dataset,
    candidates: Sequence[str] = CANDIDATES,
    *,
    budget_ms: float | None = None,
    settings: FinetuneSettings | None = None,
    progress: Progress | None = None,
) -> Advised:
    """Measure each candidate on the data's train and tune images, and return them ranked; val is not touched.

    The one to take is the fastest of those within the budget that are not clearly worse than the best of
    them: in answers on tune, and in loss by a standard error.

    Args:
        dataset: What `tledge.data.find` gave.
        candidates: Backbones as `--backbone` takes them; with `=FILE` behind the name, of these weights.
        budget_ms: The most that one inference may take.
        settings: Of the split, workers and device.
        progress: Where to report.

    Raises:
        UsageError: the budget is no time, or none of the candidates can be had.
        InputError: the data are not fit, or too few for a tune part.
    """
    settings, progress = settings or FinetuneSettings(), progress or Progress.silent()
    if budget_ms is not None and not 0 < budget_ms < float("inf"):
        raise UsageError(f"the budget is {budget_ms:g} ms", hint="Give more than 0 ms.")
    found = contents.examine(dataset, settings, progress)
    if not found.tune:
        raise InputError(
            f"{dataset.root} has too few images to keep some apart for choosing", path=dataset.root
        )
    tried: list[_Tried] = []
    skipped: list[tuple[str, str]] = []
    for name in candidates:
        try:
            tried.append(_try(name, found, settings, progress))
        except (MachineError, UsageError) as error:
            skipped.append((name, error.message))
            progress.note(f"{name} is left out: {error.message}")
    if not tried:
        raise UsageError(
            "none of the backbones can be tried here", hint="Name others: --backbone efficientnet-lite0,..."
        )
    times = _times([(one.onnx, one.shape) for one in tried], progress)
    on_front = front([(one.top1, -ms) for one, ms in zip(tried, times, strict=True)])
    fitting = [
        (one, ms) for one, ms in zip(tried, times, strict=True) if budget_ms is None or ms <= budget_ms
    ]
    count = len(found.tune)
    advice = []
    for one, ms, at_front in zip(tried, times, on_front, strict=True):
        low, high = wilson(round(one.top1 * count / 100), count)
        advice.append(
            Advice(
                backbone=one.backbone,
                image_size=one.size,
                probe_top1=one.top1,
                probe_low=100 * low,
                probe_high=100 * high,
                knn_top1=one.knn,
                infer_ms=ms,
                graph_mib=len(one.onnx) / 2**20,
                pareto=at_front,
                fits=budget_ms is None or ms <= budget_ms,
            )
        )
    advice.sort(key=lambda one: (-one.probe_top1, one.infer_ms))
    return Advised(tuple(advice), _chosen(fitting), tuple(skipped), len(found.train), count)


def _chosen(fitting: Sequence[tuple[_Tried, float]]) -> str | None:
    if not fitting:
        return None
    best = min((one for one, _ in fitting), key=lambda one: sum(one.losses))
    good = [
        (ms, one.backbone)
        for one, ms in fitting
        if not clearly_worse(one.losses, one.top1, best.losses, best.top1)
    ]
    return min(good)[1]


def _try(name: str, found: contents.Found, settings: FinetuneSettings, progress: Progress) -> _Tried:
    """Return what the candidate's features are worth; raises what `create` raises."""
    backbone, _, file = name.partition("=")
    classes = len(found.dataset.classes)
    network, spec = create(backbone, classes, weights=file or "pretrained", image_size=settings.image_size)
    files = found.train_files()
    device = choose(settings.device)
    material = Material(
        images=Images(files, found.dataset.root, spec),
        train_on=tuple(range(len(found.train))),
        tune_on=tuple(range(len(found.train), len(files))),
        prepare=preprocessor(spec, "host"),
        device=device,
        progress=progress,
        workers=settings.threads,
    )
    onnx = to_onnx(network, spec, found.dataset.classes)
    (every,) = features.over(
        features.place(network, device).eval().features, material, range(len(files)), title=backbone
    )
    train, tune = every[: len(found.train)], every[len(found.train) :]
    labels, tune_labels = material.train_labels, material.tune_labels
    logits = probe.fit([train], labels, [tune], tune_labels, classes).logits(tune)
    return _Tried(
        backbone=backbone,
        size=spec.size[0],
        losses=tempered_losses(logits, tune_labels).tolist(),
        top1=top1(logits, tune_labels),
        knn=_by_neighbours(train, labels, tune, tune_labels),
        onnx=onnx,
        shape=spec.shape,
    )


def _by_neighbours(
    train: features.Floats, labels: probe.Labels, tune: features.Floats, tune_labels: probe.Labels
) -> float:
    """Return the percentage of tune images that their nearest training images vote right, by cosine."""
    unit, asked = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (train, tune))
    likeness = asked @ unit.T
    count = min(NEIGHBOURS, len(train))
    nearest = np.argsort(-likeness, axis=1, kind="stable")[:, :count]
    votes = np.zeros((len(tune), int(labels.max()) + 1))
    np.add.at(votes, (np.arange(len(tune))[:, None], labels[nearest]), 1.0)
    return float(100 * (votes.argmax(axis=1) == tune_labels).mean())


def _times(graphs: Sequence[tuple[bytes, tuple[int, ...]]], progress: Progress) -> list[float]:
    """Return the median inference of each graph in ms; they take turns, so that what slows one slows all."""
    sessions: list[tuple[Session, Any]] = []
    for onnx, shape in graphs:
        session = open_session(onnx, BACKEND, shape=shape)
        sessions.append((session, np.zeros((1, *shape), np.float32)))
    taken: list[list[float]] = [[] for _ in sessions]
    with progress.task("timing", total=ROUNDS, unit="rounds") as task:
        for turn in range(WARM_UP + ROUNDS):
            for (session, tensor), times in zip(sessions, taken, strict=True):
                started = time.perf_counter()
                session.run(tensor)
                if turn >= WARM_UP:
                    times.append(1e3 * (time.perf_counter() - started))
            if turn >= WARM_UP:
                task.advance()
    return [float(np.median(times)) for times in taken]
