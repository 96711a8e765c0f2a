"""`tledge sweep`: learning rate, strength of augmentation and backbone, by trying them."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tledge.cli.options import FilePath, Output, columns, subcommand

if TYPE_CHECKING:
    from tledge.training.sweep import Swept, Trial


@subcommand("sweep")
@click.argument("data", type=FilePath)
@click.option("--backbone", default="efficientnet-lite0", help="Backbones to try, with commas between.")
@click.option("--trials", type=int, default=12, help="How many settings to try.")
@click.option("--at-once", type=int, default=1, help="Trials that share a machine.")
@click.option("--address", help="Of a Ray cluster, HOST:6379; default: this machine alone.")
@click.option("--epochs", type=int, help="Of each trial; default: as finetune.")
@click.option("--image-size", type=int, help="Side of the input, pixels; default: each backbone's own.")
@click.option("--train-images", type=int, help="At most this many of train, each class in proportion.")
@click.option("--seed", type=int, help="Of the trials drawn, and of each one's training.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Where to train.")
def command(
    output: Output,
    data: Path,
    backbone: str,
    trials: int,
    at_once: int,
    address: str | None,
    **given: Any,
) -> None:
    """Try learning rates, strengths of augmentation and backbones on the images in DATA, through Ray Tune.

    Every trial is judged on images that are kept apart from train; val is not touched. The answer is a table,
    and the command line that trains as the best trial did.
    """
    from tledge.data import find
    from tledge.training import FinetuneSettings
    from tledge.training.sweep import sweep

    started = time.monotonic()
    swept = sweep(
        find(data),
        backbone.split(","),
        trials=trials,
        settings=FinetuneSettings(**{name: value for name, value in given.items() if value is not None}),
        address=address,
        at_once=at_once,
        progress=output.progress,
    )
    document = {
        "data": str(data),
        "trials": [dataclasses.asdict(trial) for trial in swept.trials],
        "command": swept.command(data),
        "seconds": round(time.monotonic() - started, 3),
    }
    output.show(document, _text(swept, data))


def _text(swept: Swept, data: Path) -> str:
    head = ("backbone", "lr", "magnitude", "tune loss", "tune %", "95 % interval", "epochs", "s")
    failed = [f"failed: {one.backbone}, lr {one.lr:g}: {one.error}" for one in swept.trials if one.error]
    judged = f"judged on {swept.tune} images kept apart from {swept.train}; val was not looked at"
    rows = [_row(one) for one in swept.trials if one.error is None]
    return "\n".join([columns(head, rows), "", judged, *failed, swept.command(data)])


def _row(trial: Trial) -> tuple[str, ...]:
    return (
        trial.backbone,
        f"{trial.lr:g}",
        f"{trial.magnitude:g}",
        f"{trial.tune_loss:.4f}",
        f"{trial.tune_top1:.2f}",
        f"{trial.tune_low:.1f} to {trial.tune_high:.1f}",
        str(trial.epochs),
        f"{trial.seconds:.0f}",
    )
