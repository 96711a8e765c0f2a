"""`tledge demo`: the whole job on real images."""

from __future__ import annotations

import time
from pathlib import Path

import click

from tledge.cli.options import FilePath, Output, ledger, subcommand


@subcommand("demo")
@click.option("-o", "--out", type=FilePath, default=Path("demo"), help="A folder for images and bundle.")
@click.option("--force", is_flag=True, help="Replace the bundle of an earlier demo.")
def command(output: Output, out: Path, force: bool) -> None:
    """Do the whole job on scikit-learn's handwritten digits, with no download.

    Fine-tune EfficientNet-Lite0, export, calibrate to INT8, score every stage, bench and predict.
    """
    from tledge import bench, demo

    started = time.monotonic()
    done = demo.run(out, output.progress, force=force)
    document = {
        "bundle": str(done.bundle.path),
        "ledger": [row.as_dict() for row in done.bundle.ledger],
        "bench": done.bench,
        "prediction": done.prediction,
        "seconds": round(time.monotonic() - started, 1),
    }
    answer = f"{done.prediction['file']}: {done.prediction['label']} ({done.prediction['probability']:.1%})"
    steps = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in done.seconds.items())
    text = [bench.text(done.bench), "", answer, "", ledger(done.bundle.ledger), ""]
    text.append(f"{done.bundle.path}: all in {document['seconds']:.0f} s ({steps})")
    output.show(document, "\n".join(text))
