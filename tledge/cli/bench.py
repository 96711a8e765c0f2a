"""`tledge bench`: latency, and whether to believe it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tledge.bundle import Bundle
from tledge.cli.options import FilePath, Output, subcommand
from tledge.errors import LatencyError, UsageError


@subcommand("bench")
@click.argument("bundle", type=FilePath)
@click.option(
    "--scenario",
    type=click.Choice(["single-stream", "multi-stream", "server", "offline"]),
    default="single-stream",
    help="MLPerf's: one query after another, 8 images a query, Poisson arrivals, throughput.",
)
@click.option("--variant", default="auto", help="fp32, fp16, int8 or int8-cpu; several with commas.")
@click.option(
    "--backend", default="auto", help="onnxruntime, openvino, tensorrt or tensorrt-rtx; several with commas."
)
@click.option("--duration", type=float, default=10.0, help="Seconds that a run lasts at least.")
@click.option(
    "--from",
    "source",
    type=click.Choice(["jpeg", "pixels", "tensor"]),
    default="jpeg",
    help="Where a query starts: a file's bytes, decoded pixels, or the input tensor.",
)
@click.option("--threads", help="Threads an inference, several with commas; default: the physical cores.")
@click.option("--batch", help="Images a query, several with commas; default: the scenario's.")
@click.option("--rate", type=float, help="Queries that come a second, for --scenario server.")
@click.option("--budget-ms", type=float, help="What a query may take; fails (exit 7) if it does not hold.")
@click.option("--percentile", type=float, help="What share of the queries the budget is for, in percent.")
@click.option("--compare", type=FilePath, help="An earlier result (--json) to compare with.")
@click.option(
    "--grid",
    "whole_grid",
    is_flag=True,
    help="Every variant, threads and batch: what is on the Pareto front.",
)
@click.option(
    "--accuracy", "every_image", is_flag=True, help="Answer every eval image, and hold it against the ledger."
)
@click.option("--data", type=FilePath, help="Images to use instead of the bundle's eval images.")
@click.option("--force", is_flag=True, help="Report a run that is not valid without failing.")
def command(
    output: Output,
    bundle: Path,
    threads: str | None,
    batch: str | None,
    data: Path | None,
    force: bool,
    **asked: Any,
) -> int | None:
    """Measure the latency of BUNDLE on this machine; several candidates take turns in one run.

    A run that must not be believed (another load, a clock that moved, too few queries, wrong answers) says
    why and ends with exit code 7, unless --force; so does a --budget-ms that was missed, in any case.
    """
    from tledge import bench
    from tledge.data import find
    from tledge.runtime.choose import passed_over

    opened = Bundle.open(bundle)
    if "auto" in asked["backend"].split(","):
        for reason in passed_over(opened):
            output.progress.note(reason)
    images = [sample.read() for sample in find(data).samples] if data else None
    result = bench.run(
        opened,
        threads=_numbers("--threads", threads),
        batch=_numbers("--batch", batch),
        images=images,
        progress=output.progress,
        **asked,
    )
    output.show(result, bench.text(result))
    return None if bench.stands(result, force=force) else LatencyError.exit_code


def _numbers(option: str, words: str | None) -> list[int]:
    """Return the numbers of an option that takes several."""
    numbers = words.split(",") if words else []
    if not all(word.isdecimal() and int(word) > 0 for word in numbers):
        raise UsageError(f"{option} {words} is no number above 0, nor several", hint="For instance 1,2.")
    return [int(word) for word in numbers]
