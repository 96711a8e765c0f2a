"""`tledge evaluate`: a variant on a backend, scored."""

from __future__ import annotations

import time
from pathlib import Path

import click

from tledge.bundle import Bundle
from tledge.cli.options import FilePath, Output, stage_answer, subcommand


@subcommand("evaluate")
@click.argument("bundle", type=FilePath)
@click.argument("data", type=FilePath, required=False)
@click.option("--variant", default="auto", help="fp32, fp16, int8 or int8-cpu.")
@click.option("--backend", default="auto", help="onnxruntime, openvino, tensorrt or tensorrt-rtx.")
@click.option("--threads", type=click.IntRange(1), help="Threads an inference; default: the physical cores.")
def command(
    output: Output, bundle: Path, data: Path | None, variant: str, backend: str, threads: int | None
) -> None:
    """Score a variant of BUNDLE on its eval images, into its ledger; or on the labelled images in DATA.

    Scores on DATA are printed and not kept, unless the bundle has no eval images of its own: all rows of a
    ledger are of the same images.
    """
    from tledge.data import find
    from tledge.evaluation import stage
    from tledge.runtime.choose import choose

    started = time.monotonic()
    opened = Bundle.open(bundle)
    backend, variant = choose(opened, backend, variant)
    images = find(data, labels=opened.labels) if data else None
    row, _ = stage.evaluate(opened, variant, backend, data=images, threads=threads, progress=output.progress)
    document, text = stage_answer(Bundle.open(bundle), [row], time.monotonic() - started)
    output.show(document, text)
