"""`tledge advise`: which backbone is worth fine-tuning on these images, on this machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tledge.cli.options import FilePath, Output, columns, subcommand

if TYPE_CHECKING:
    from tledge.training.advise import Advised


@subcommand("advise")
@click.argument("data", type=FilePath)
@click.option("--backbone", help="Candidates, with commas between; NAME=FILE.safetensors for other weights.")
@click.option("--budget-ms", type=float, help="The most that one inference may take.")
@click.option("--image-size", type=int, help="Side of the input, pixels; default: each backbone's own.")
@click.option("--plot", type=FilePath, help="Where to draw accuracy against latency, NAME.svg.")
def command(
    output: Output,
    data: Path,
    backbone: str | None,
    budget_ms: float | None,
    image_size: int | None,
    plot: Path | None,
) -> None:
    """Rank backbones by what their features are worth on the images in DATA, and by their latency here.

    A linear probe and the nearest neighbours are judged on images that are kept apart from train; val is not
    touched. Backbones whose weights are not on this machine are left out, and named.
    """
    from tledge.data import find
    from tledge.training import FinetuneSettings
    from tledge.training.advise import CANDIDATES, advise

    started = time.monotonic()
    found = advise(
        find(data),
        backbone.split(",") if backbone else CANDIDATES,
        budget_ms=budget_ms,
        settings=FinetuneSettings(image_size=image_size),
        progress=output.progress,
    )
    if plot is not None:
        _draw(found, plot)
    document = {"data": str(data), **found.as_dict(), "seconds": round(time.monotonic() - started, 3)}
    output.show(document, _text(found, data))


def _text(found: Advised, data: Path) -> str:
    rows = [
        (
            one.backbone,
            f"{one.probe_top1:.2f}",
            f"{one.probe_low:.1f} to {one.probe_high:.1f}",
            f"{one.knn_top1:.2f}",
            f"{one.infer_ms:.2f}",
            f"{one.graph_mib:.1f}",
            " ".join(word for word, yes in (("front", one.pareto), ("too slow", not one.fits)) if yes),
        )
        for one in found.advice
    ]
    head = ("backbone", "probe %", "95 % interval", "neighbours %", "ms", "MiB", "")
    left_out = [f"left out: {name}: {reason}" for name, reason in found.skipped]
    if found.chosen is None:
        verdict = "none is within the budget"
    else:
        verdict = f"take {found.chosen}: tledge finetune {data} -o NAME.tledge --backbone {found.chosen}"
    judged = (
        f"judged on {found.tune} images kept apart from {found.train}; ms: one image, float32, this machine"
    )
    return "\n".join([columns(head, rows), "", judged, *left_out, verdict])


def _draw(found: Advised, place: Path) -> None:
    from tledge.bundle.files import write_atomic
    from tledge.report import bench_plots
    from tledge.report.latency import Point

    points = [
        Point(number, one.backbone, one.probe_top1, one.infer_ms, 1000 / one.infer_ms, True, one.pareto)
        for number, one in enumerate(found.advice, 1)
    ]
    write_atomic(place, bench_plots.pareto(points, time="median").encode())
