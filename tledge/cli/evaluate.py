"""`tledge evaluate`: a variant on a backend, scored."""

from __future__ import annotations

import time
from pathlib import Path

import click

from tledge.bundle import Bundle
from tledge.bundle.probabilities import checked_threshold
from tledge.cli.options import FilePath, Output, stage_answer, subcommand


@subcommand("evaluate")
@click.argument("bundle", type=FilePath)
@click.argument("data", type=FilePath, required=False)
@click.option("--variant", default="auto", help="fp32, fp16, int8 or int8-cpu.")
@click.option("--backend", default="auto", help="onnxruntime, openvino, tensorrt or tensorrt-rtx.")
@click.option(
    "--reject-below",
    type=float,
    help="Count answers less probable than this (0 to 1) as none, and keep that in the bundle.",
)
@click.option("--threads", type=click.IntRange(1), help="Threads an inference; default: the physical cores.")
def command(
    output: Output,
    bundle: Path,
    data: Path | None,
    variant: str,
    backend: str,
    reject_below: float | None,
    threads: int | None,
) -> None:
    """Score a variant of BUNDLE on its eval images, into its ledger; or on the labelled images in DATA.

    Scores on DATA are printed and not kept, unless the bundle has no eval images of its own: all rows of a
    ledger are of the same images. Below the ledger stand balanced accuracy, macro-F1 and the classes that are
    found worst (--json: the recall of each). With --reject-below the answer says what share of the images is
    answered and how much of that is right; predict and serve use it from then on (0 takes it away).
    """
    from tledge.data import find
    from tledge.evaluation import stage
    from tledge.evaluation.classes import balanced
    from tledge.evaluation.images import of_bundle, of_dataset
    from tledge.evaluation.temperature import reject
    from tledge.runtime.choose import choose

    started = time.monotonic()
    if reject_below is not None:
        checked_threshold(reject_below)
    opened = Bundle.open(bundle)
    backend, variant = choose(opened, backend, variant)
    found = find(data, labels=opened.labels) if data else None
    row, logits = stage.evaluate(
        opened, variant, backend, data=found, threads=threads, progress=output.progress
    )
    document, text = stage_answer(Bundle.open(bundle), [row], time.monotonic() - started)
    images = of_dataset(found, opened.labels) if found else of_bundle(opened)
    by_class = balanced(logits, images.expected)
    document["classes"] = by_class.as_dict(opened.labels)
    text += f"\n{by_class.text(opened.labels)}"
    if reject_below is not None:
        rejected = reject(Bundle.open(bundle), variant, logits, images.expected, reject_below)
        document["rejection"] = rejected.as_dict()
        text += f"\n{rejected}"
    output.show(document, text)
