"""`tledge calibrate`: INT8 and FP16 variants, scored."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import click

from tledge.bundle import Bundle
from tledge.cli.options import FilePath, Output, stage_answer, subcommand
from tledge.errors import InputError


@subcommand("calibrate")
@click.argument("bundle", type=FilePath)
@click.argument("data", type=FilePath, required=False)
@click.option(
    "--recipe", metavar="NAME|FILE", help="Starting choices; default: those of the backbone's family."
)
@click.option("--images", type=int, help="Train images to calibrate on, balanced over classes; default: 512.")
@click.option(
    "--ranges",
    type=click.Choice(["auto", "minmax", "percentile", "mse", "entropy"]),
    default="auto",
    help="How activations are clipped; auto measures on tune what the recipe names.",
)
@click.option("--max-drop", type=float, default=0.5, help="Points of top-1 that INT8 may lose.")
@click.option(
    "--min-agreement",
    type=float,
    help="Per cent of the answers that INT8 must keep; default: repair aims at 99.",
)
@click.option(
    "--write-trt-cache", type=FilePath, metavar="FILE", help="Also a calibration.cache of TensorRT 8 and 10."
)
@click.option(
    "--cpu-weights",
    type=click.Choice(["auto", "8", "7"]),
    default="auto",
    help="Bits of int8-cpu's weights; auto: 7 where the processor has no VNNI and 8 would saturate.",
)
@click.option("--threads", type=click.IntRange(1), help="Default: the physical cores.")
def command(
    output: Output,
    bundle: Path,
    data: Path | None,
    recipe: str | None,
    images: int | None,
    ranges: str,
    max_drop: float,
    min_agreement: float | None,
    write_trt_cache: Path | None,
    cpu_weights: Literal["auto", "8", "7"],
    threads: int | None,
) -> None:
    """Make int8 (for TensorRT), int8-cpu (for x86) and fp16 of BUNDLE's network, and score them.

    The images are those that the network was trained on, found by path and hash; or DATA. A variant that
    loses more than allowed, by a paired test on the eval images, ends this with exit code 5 and no change.
    """
    from tledge.quantization import CalibrateSettings, calibrate, calibration_file

    started = time.monotonic()
    if write_trt_cache is not None and not write_trt_cache.parent.is_dir():
        raise InputError(f"no such folder: {write_trt_cache.parent}", path=write_trt_cache.parent)
    settings = CalibrateSettings(
        recipe=recipe,
        images=images,
        ranges=ranges,
        max_drop=max_drop,
        min_agreement=min_agreement,
        threads=threads,
        cpu_weights=cpu_weights,
    )
    rows = calibrate(Bundle.open(bundle), data, settings, output.progress)
    found = calibration_file.read(Bundle.open(bundle))
    if write_trt_cache is not None:
        from tledge.bundle.files import write_atomic
        from tledge.quantization import trt_cache

        write_atomic(write_trt_cache, trt_cache.encode(found))
    document, text = stage_answer(Bundle.open(bundle), rows, time.monotonic() - started)
    output.show(document, f"{calibration_file.table(found)}\n\n{text}")
