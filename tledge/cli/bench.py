"""`tledge bench`: latency, and whether to believe it."""

from __future__ import annotations

from pathlib import Path

import click

from tledge.bundle import Bundle
from tledge.cli.options import FilePath, Output, subcommand
from tledge.errors import LatencyError


@subcommand("bench")
@click.argument("bundle", type=FilePath)
@click.option("--scenario", type=click.Choice(["single-stream"]), default="single-stream")
@click.option("--variant", default="auto", help="fp32, fp16, int8 or int8-cpu.")
@click.option("--backend", default="auto", help="onnxruntime, openvino, tensorrt or tensorrt-rtx.")
@click.option("--duration", type=float, default=10.0, help="Seconds that the run lasts at least.")
@click.option(
    "--from",
    "source",
    type=click.Choice(["jpeg", "pixels", "tensor"]),
    default="jpeg",
    help="Where a query starts: a file's bytes, decoded pixels, or the input tensor.",
)
@click.option("--threads", type=click.IntRange(1), help="Threads an inference; default: the physical cores.")
@click.option("--data", type=FilePath, help="Images to use instead of the bundle's eval images.")
@click.option("--force", is_flag=True, help="Report a run that is not valid without failing.")
def command(
    output: Output,
    bundle: Path,
    scenario: str,
    variant: str,
    backend: str,
    duration: float,
    source: str,
    threads: int | None,
    data: Path | None,
    force: bool,
) -> int | None:
    """Measure the latency of BUNDLE on this machine, one query after the other.

    A run that must not be believed (another load, a clock that moved, too few queries) says why and ends with
    exit code 7, unless --force.
    """
    from tledge import bench
    from tledge.data import find
    from tledge.runtime.choose import passed_over

    opened = Bundle.open(bundle)
    if "auto" in backend.split(","):
        for reason in passed_over(opened):
            output.progress.note(reason)
    images = [sample.read() for sample in find(data).samples] if data else None
    result = bench.run(
        opened,
        scenario,
        variant=variant,
        backend=backend,
        duration=duration,
        source=source,
        threads=threads,
        images=images,
    )
    output.show(result, bench.text(result))
    return None if result["valid"] or force else LatencyError.exit_code
