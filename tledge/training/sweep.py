"""Hyper-parameters by trying them: `tledge sweep`, on Ray Tune, on this machine or a cluster.

The trials are drawn here, from the seed alone, and Ray runs them: each backbone as it is by default first,
then rates and strengths of augmentation at random, which finds as good ones as a grid does in a fraction of
the trials (Bergstra and Bengio, 2012). Every trial is judged on tune; val is not touched.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import shlex
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tledge.bundle import TrainFile
from tledge.data.dataset import Dataset
from tledge.errors import InputError, MachineError, TledgeError, UsageError, nearest
from tledge.evaluation.scores import wilson
from tledge.models import is_scratch
from tledge.models.create import names
from tledge.preprocess import preprocessor
from tledge.progress import Progress
from tledge.training import contents, features, start
from tledge.training.choosing import tempered_loss
from tledge.training.device import choose, threads
from tledge.training.finetune import network_of
from tledge.training.images import Images
from tledge.training.loop import train
from tledge.training.material import Material
from tledge.training.settings import MAGNITUDE, FinetuneSettings

SPREAD = 5.0  # rates lie between a fifth of the default one and five times it
MAGNITUDES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Trial:
    """One set of settings, and what it reached on tune at the epoch that would be kept.

    `tune_loss` is in nats, at the temperature that suits it best; `tune_top1` in percent with a 95 %
    interval. All are None where the trial failed, and `error` says why.
    """

    number: int
    backbone: str
    lr: float
    magnitude: float
    tune_loss: float | None = None
    tune_top1: float | None = None
    tune_low: float | None = None
    tune_high: float | None = None
    epochs: int | None = None
    seconds: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Swept:
    """All trials, best first, and the options of `tledge finetune` that repeat the best."""

    trials: tuple[Trial, ...]
    options: tuple[str, ...]
    train: int
    tune: int

    @property
    def best(self) -> Trial:
        """Return the trial with the least loss on tune."""
        return self.trials[0]

    def command(self, data: Path) -> str:
        """Return the command line that trains as the best trial did."""
        return shlex.join(["tledge", "finetune", str(data), "-o", "NAME.tledge", *self.options])


def sweep(
    dataset: Dataset,
    backbones: Sequence[str],
    *,
    trials: int = 12,
    settings: FinetuneSettings | None = None,
    address: str | None = None,
    at_once: int = 1,
    progress: Progress | None = None,
) -> Swept:
    """Try `trials` settings on the data's train images, each judged on tune, and return them ranked.

    Args:
        dataset: what `tledge.data.find` gave; on a cluster its folder lies in the same place on each machine.
        backbones: as `--backbone` takes them.
        trials: how many, one for each backbone or more.
        settings: what all trials share; its backbone, lr and magnitude are those that are varied.
        address: of a Ray cluster; None: this machine alone.
        at_once: how many trials share a machine.
        progress: where to report.

    Raises:
        UsageError: an unknown backbone, or too few trials.
        InputError: the data are not fit, or too few for a tune part.
        MachineError: Ray is not installed or not reached, or every trial failed.
    """
    settings, progress = settings or FinetuneSettings(), progress or Progress.silent()
    known = names()
    for name in backbones:
        if name not in known:
            raise UsageError(f"unknown backbone {name!r}", hint=nearest(name, known))
    if trials < len(backbones):
        raise UsageError(
            f"{trials} trials are too few for {len(backbones)} backbones", hint="Each is tried once or more."
        )
    if at_once < 1:
        raise UsageError(f"{at_once} trials at once", hint="It is 1 or more.")
    _require_ray()
    _require_reachable(address)
    found = contents.examine(dataset, settings, progress)
    if not found.tune:
        raise InputError(
            f"{dataset.root} has too few images to keep some apart for choosing", path=dataset.root
        )
    drawn = draw(backbones, trials, settings)
    job = {
        "classes": found.dataset.classes,
        "files": [dataclasses.asdict(file) for file in found.train_files()],
        "root": str(found.dataset.root.resolve()),
        "settings": dataclasses.asdict(settings),
    }
    ended = _on_ray(drawn, job, address=address, at_once=at_once, progress=progress)
    ranked = sorted(ended, key=lambda one: (math.inf if one.tune_loss is None else one.tune_loss, one.number))
    if ranked[0].tune_loss is None:
        raise MachineError(f"every trial failed; the first: {ranked[0].error}")
    return Swept(tuple(ranked), options(ranked[0], settings), len(found.train), len(found.tune))


def draw(backbones: Sequence[str], trials: int, settings: FinetuneSettings) -> list[Trial]:
    """Return the settings to try: each backbone's defaults, then backbones by turns with random others."""
    random = np.random.default_rng(settings.seed)
    drawn = []
    for number in range(trials):
        backbone = backbones[number % len(backbones)]
        scratch = is_scratch(backbone, settings.weights)
        usual = start.RATES[settings.optimizer][0 if scratch else 1 if settings.head != "linear" else 2]
        lr, magnitude = usual, MAGNITUDE
        if number >= len(backbones):
            lr = float(f"{usual * SPREAD ** random.uniform(-1, 1):.2g}")
            magnitude = float(random.choice(MAGNITUDES))
        drawn.append(Trial(number, backbone, lr, magnitude))
    return drawn


def options(trial: Trial, settings: FinetuneSettings) -> tuple[str, ...]:
    """Return the options of `tledge finetune` that train as `trial` did."""
    defaults = FinetuneSettings()
    words = ["--backbone", trial.backbone, "--lr", f"{trial.lr:g}", "--magnitude", f"{trial.magnitude:g}"]
    for name in ("epochs", "image_size", "train_images", "seed", "device"):
        value = getattr(settings, name)
        if value != getattr(defaults, name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return tuple(words)


def run(trial: Trial, job: dict[str, Any]) -> Trial:
    """Train as `trial` says and return it with what it reached; raises what fine-tuning raises."""
    started = time.monotonic()
    settings = dataclasses.replace(
        FinetuneSettings(**job["settings"]), backbone=trial.backbone, lr=trial.lr, magnitude=trial.magnitude
    )
    network, spec = network_of(settings, tuple(job["classes"]))
    files = [TrainFile(**file) for file in job["files"]]
    device = choose(settings.device)
    material = Material(
        images=Images(files, Path(job["root"]), spec),
        train_on=tuple(index for index, file in enumerate(files) if file.part == "train"),
        tune_on=tuple(index for index, file in enumerate(files) if file.part == "tune"),
        prepare=preprocessor(spec, "host"),
        device=device,
        progress=Progress.silent(),
        workers=settings.threads,
    )
    with threads(settings.backbone), tempfile.TemporaryDirectory() as folder:
        begun = start.make(features.place(network, device), material, settings)
        best, history = train(network, material, begun.recipe, Path(folder))
        network.load_state_dict(best)
        (logits,) = features.over(network.eval(), material, material.tune_on, title="scoring on tune")
    right = int((logits.argmax(axis=1) == material.tune_labels).sum())
    low, high = wilson(right, len(logits))
    return dataclasses.replace(
        trial,
        tune_loss=tempered_loss(logits, material.tune_labels),
        tune_top1=100 * right / len(logits),
        tune_low=100 * low,
        tune_high=100 * high,
        epochs=len(history),
        seconds=round(time.monotonic() - started, 3),
    )


def _require_ray() -> None:
    # It would tell its makers of every use, and its new tables go to standard output whatever is asked.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    try:
        import ray.tune  # noqa: F401
    except ImportError as error:
        raise MachineError("a sweep needs Ray Tune", hint='pip install "tledge[sweep]"') from error


def _require_reachable(address: str | None) -> None:
    """Refuse an address at which nothing answers; Ray itself would try for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        hint = "Give that of a Ray cluster, HOST:6379; without --address this machine alone is used."
        raise MachineError(f"nothing answers at {address}: {error}", hint=hint) from error


def _on_ray(
    drawn: Sequence[Trial], job: dict[str, Any], *, address: str | None, at_once: int, progress: Progress
) -> list[Trial]:
    """Return the trials as they ended, each in a process of its own."""
    import ray
    from ray import tune

    cores = len(os.sched_getaffinity(0))
    with progress.task("trials", total=len(drawn), unit="trials") as task:

        class Telling(tune.Callback):
            def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
                task.advance()

        def attempt(config: dict[str, int], job: dict[str, Any]) -> dict[str, Any]:
            trial = drawn[config["number"]]
            try:
                return dataclasses.asdict(run(trial, job))
            except TledgeError as error:
                return dataclasses.asdict(dataclasses.replace(trial, error=error.message))

        try:
            where: dict[str, Any] = {} if address else {"num_cpus": cores, "include_dashboard": False}
            ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **where)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise MachineError(f"Ray cannot be started: {reason}") from error
        try:
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
                resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
                gpus = 1 / at_once if resources.get("GPU") else 0
                means = {"cpu": max(1, cores // at_once), "gpu": gpus}
                grid = tune.Tuner(
                    tune.with_resources(tune.with_parameters(attempt, job=job), means),
                    param_space={"number": tune.grid_search(list(range(len(drawn))))},
                    run_config=tune.RunConfig(storage_path=folder, verbose=0, callbacks=[Telling()]),
                ).fit()
        finally:
            ray.shutdown()
    ended = []
    for index in range(len(grid)):
        result = grid[index]
        trial = drawn[index]
        if result.error is not None or result.metrics is None:
            reason = str(result.error).strip().splitlines()[-1]
            ended.append(dataclasses.replace(trial, error=reason))
        else:
            fields = [field.name for field in dataclasses.fields(Trial)]
            ended.append(Trial(**{name: result.metrics[name] for name in fields}))
    return ended
