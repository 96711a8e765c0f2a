"""`tledge drift`: do images from the field look like those that the network was made for?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tledge.bundle import Bundle
from tledge.cli.options import FilePath, Output, columns, ledger, subcommand
from tledge.errors import UsageError

if TYPE_CHECKING:
    from tledge.evaluation.drift import Drift
    from tledge.training.adapted import Adapted

SHOWN = 10


@subcommand("drift")
@click.argument("bundle", type=FilePath)
@click.argument("folder", type=FilePath)
@click.option("--worst", type=click.IntRange(0), default=10, help="How many of the strangest images to name.")
@click.option("--seed", type=click.IntRange(0), default=0, help="The same seed gives the same answer.")
@click.option("--adapt", is_flag=True, help="Fit the network's batch norms to FOLDER, as a new bundle.")
@click.option("-o", "--out", type=FilePath, help="Where the adapted bundle goes, NAME.tledge.")
@click.option("--force", is_flag=True, help="Replace a bundle that is in the way at -o.")
def command(
    output: Output,
    bundle: Path,
    folder: Path,
    worst: int,
    seed: int,
    adapt: bool,
    out: Path | None,
    force: bool,
) -> None:
    """Compare the images in FOLDER, which need no labels, with the eval images of BUNDLE.

    Says whether they differ beyond chance, which are the strangest, and which answers they get more often.
    With --adapt -o B2 the network's batch norms are fitted to FOLDER too, and both networks are scored.
    """
    from tledge.evaluation.drift import drift

    started = time.monotonic()
    if adapt != (out is not None):
        raise UsageError(
            "--adapt and -o go together", hint="tledge drift B FOLDER --adapt -o B2 makes an adapted bundle."
        )
    opened = Bundle.open(bundle)
    made = None
    if out is not None:
        from tledge.training.adapted import make

        made = make(opened, folder, out, seed=seed, force=force, progress=output.progress)
    found = drift(opened, folder, seed=seed, worst=worst, progress=output.progress)
    document = {"bundle": str(bundle), **found.as_dict()}
    text = _text(found)
    if made is not None:
        document |= {"adapted": made.as_dict(), "ledger": [row.as_dict() for row in made.bundle.ledger]}
        text += f"\n\n{_adapted(made)}\n\n{ledger(made.bundle.ledger)}"
    output.show({**document, "seconds": round(time.monotonic() - started, 3)}, text)


def _adapted(made: Adapted) -> str:
    lines = [f"{made.bundle.path}: batch norms fitted to {made.images} images"]
    scored = {"the eval images": made.eval, "these images": made.field}
    for what, both in scored.items():
        if both is None:
            lines.append(f"{what} have no labels (folders named after the classes): no score")
            continue
        found = both.as_dict()
        verdict = "loses" if found["change"] < 0 else "gains"
        lines.append(
            f"on {what} it {verdict} {abs(found['change']):.2f} points: {found['before']:.2f} to "
            f"{found['after']:.2f} % of {found['n']} (change {found['change_low']:+.2f} to "
            f"{found['change_high']:+.2f} by one-sided 95 % bounds)"
        )
    lines.append(made.advice)
    return "\n".join(lines)


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
