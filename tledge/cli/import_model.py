"""`tledge import`: a bundle out of a classifier trained elsewhere."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tledge.cli.options import FilePath, Output, stage_answer, subcommand

if TYPE_CHECKING:
    from tledge.preprocess.spec import Jpeg, Order


@subcommand("import")
@click.argument("model", type=FilePath)
@click.option("-o", "--out", type=FilePath, required=True, help="Where the bundle goes, NAME.tledge.")
@click.option("--labels", type=FilePath, help="Class names, one a line; default: the model's own metadata.")
@click.option("--spec", type=FilePath, help="preprocess.json; default: the model's own metadata.")
@click.option(
    "--decode",
    type=click.Choice(["exact", "fast"]),
    help="fast: JPEGs far larger than the input are decoded at a part of their size; other bits.",
)
@click.option(
    "--frames",
    type=click.Choice(["convert-first", "planes-first"]),
    help="planes-first: a camera's planes are resized before conversion; faster, other bits.",
)
@click.option("--force", is_flag=True, help="Replace a finished bundle that is in the way.")
def command(
    output: Output,
    model: Path,
    out: Path,
    labels: Path | None,
    spec: Path | None,
    decode: Jpeg | None,
    frames: Order | None,
    force: bool,
) -> None:
    """Make a bundle out of MODEL.onnx, an image classifier trained elsewhere. Needs no torch."""
    from tledge.bundle.foreign import import_onnx
    from tledge.runtime import open_session

    started = time.monotonic()
    bundle = import_onnx(
        model,
        out,
        labels=labels,
        spec=spec,
        decode=decode,
        frames=frames,
        open_graph=lambda path: open_session(path, "onnxruntime"),
        force=force,
    )
    document, text = stage_answer(bundle, bundle.ledger, time.monotonic() - started)
    hint = f"imported into {bundle.path}; `tledge evaluate {bundle.path} DATA` scores it on labelled images"
    output.show(document, text if bundle.ledger else hint)
