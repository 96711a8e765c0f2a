"""`tledge drift`: do images from the field look like those that the network was made for?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tledge.bundle import Bundle
from tledge.cli.options import FilePath, Output, columns, subcommand

if TYPE_CHECKING:
    from tledge.evaluation.drift import Drift

SHOWN = 10


@subcommand("drift")
@click.argument("bundle", type=FilePath)
@click.argument("folder", type=FilePath)
@click.option("--worst", type=click.IntRange(0), default=10, help="How many of the strangest images to name.")
@click.option("--seed", type=click.IntRange(0), default=0, help="The same seed gives the same answer.")
def command(output: Output, bundle: Path, folder: Path, worst: int, seed: int) -> None:
    """Compare the images in FOLDER, which need no labels, with the eval images of BUNDLE.

    Says whether they differ beyond chance, which are the strangest, and which answers they get more often.
    """
    from tledge.evaluation.drift import drift

    started = time.monotonic()
    found = drift(Bundle.open(bundle), folder, seed=seed, worst=worst, progress=output.progress)
    document = {"bundle": str(bundle), **found.as_dict(), "seconds": round(time.monotonic() - started, 3)}
    output.show(document, _text(found))


def _text(found: Drift) -> str:
    verdict = "do not look like" if found.drifted else "look like"
    lines = [
        f"the {found.images} images {verdict} the {found.reference} eval images: energy distance "
        f"{found.distance:.4f}, {found.usual:.4f} by chance, p = {found.p_value:.3g}"
    ]
    if found.skipped:
        name, why = found.skipped[0]
        lines.append(f"{len(found.skipped)} images could not be read, the first {name}: {why}")
    if found.strangers:
        rows = [(one.file, f"{one.distance:.3f}", f"{one.beyond:.0f}") for one in found.strangers]
        lines += ["", columns(("strangest", "distance", "farther than % of the eval images"), rows)]
    moved = sorted(found.answers, key=lambda one: -abs(one.field - one.reference))[:SHOWN]
    rows = [(one.label, f"{one.field:.1f}", f"{one.reference:.1f}") for one in moved]
    lines += ["", columns(("answer", "% here", "% of the eval images"), rows)]
    return "\n".join(lines)
