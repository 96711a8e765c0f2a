"""`tledge build-engine`: a variant into an engine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tledge.bundle import Bundle
from tledge.cli.options import FilePath, Output, stage_answer, subcommand

if TYPE_CHECKING:
    from tledge.engine.build import Made
    from tledge.engine.judge import Candidate
    from tledge.runtime.engine_manifest import EngineManifest


@subcommand("build-engine")
@click.argument("bundle", type=FilePath)
@click.option(
    "--backend",
    type=click.Choice(["tensorrt", "tensorrt-rtx"]),
    default="tensorrt",
    help="TensorRT (for this machine's GPU), or TensorRT for RTX (for any RTX GPU, on any PC).",
)
@click.option(
    "--precision",
    type=click.Choice(["int8", "fp16", "fp32", "auto"]),
    default="int8",
    help="Which variant; auto: the faster of fp16 and int8 that passes.",
)
@click.option("--batch", default="1", help="Batch size, or smallest:usual:largest, such as 1:8:16.")
@click.option("--workspace", type=int, metavar="MIB", help="The most scratch memory that the engine may use.")
@click.option("--target", default="", metavar="SM,...", help="GPUs to build for, such as sm86,sm89,sm120.")
@click.option("--max-drop", type=float, default=0.5, help="Points of top-1 that the engine may lose.")
@click.option("--data", type=FilePath, metavar="DIR", help="Labelled images to score on, not the bundle's.")
@click.option("--rebuild", is_flag=True, help="Replace an engine that does not fit any more.")
def command(
    output: Output,
    bundle: Path,
    backend: str,
    precision: str,
    batch: str,
    workspace: int | None,
    target: str,
    max_drop: float,
    data: Path | None,
    rebuild: bool,
) -> None:
    """Build an engine of BUNDLE and keep it there. One that is there and fits is left as it is.

    Where the engine can run it is scored on the bundle's eval images, into the ledger. One that loses more
    than allowed, by a paired test against the graph it is built of, ends this with exit code 5 and no change.
    """
    from tledge.data import find
    from tledge.engine.build import build_engine
    from tledge.engine.settings import BuildSettings, parse_batch, parse_targets
    from tledge.evaluation.images import of_dataset

    started = time.monotonic()
    settings = BuildSettings(
        backend, parse_batch(batch), workspace_mib=workspace, targets=parse_targets(target)
    )
    opened = Bundle.open(bundle)
    made = build_engine(
        opened,
        precision,
        settings,
        rebuild=rebuild,
        progress=output.progress,
        data=of_dataset(find(data, labels=opened.labels), opened.labels) if data else None,
        max_drop=max_drop,
    )
    seconds = time.monotonic() - started
    document, scores = stage_answer(made.bundle, made.rows, seconds)
    document["engines"] = [engine.as_dict() | {"built": made.built} for engine in made.engines]
    document["tried"] = [one.as_dict(kept=one.manifest in made.engines) for one in made.tried]
    output.show(document, "\n\n".join([*_text(made, seconds), *([scores] if made.rows else [])]))


def _text(made: Made, seconds: float) -> list[str]:
    how = f"built in {seconds:.1f} s" if made.built else "was there and fits; --rebuild builds it anew"
    parts = [
        "\n".join([*layer_report(engine), f"{made.bundle.path / engine.plan_name}: {how}"])
        for engine in made.engines
    ]
    if len(made.tried) > 1:
        parts.append("\n".join(_outcome(one, kept=one.manifest in made.engines) for one in made.tried))
    return parts


def _outcome(one: Candidate, *, kept: bool) -> str:
    time = "not timed" if one.milliseconds is None else f"{one.milliseconds:.3f} ms"
    return f"{one.manifest.name}: {time}, {one.failure or 'kept' if kept or one.failure else 'slower'}"


def layer_report(engine: EngineManifest) -> list[str]:
    """Return, line by line, what an engine is and which of its layers run in which type."""
    from tledge.runtime.tensorrt_library import title

    layers = engine.layers
    lines = [
        f"{engine.name}: {engine.plan_bytes / 2**20:.1f} MiB, batch {':'.join(map(str, engine.batch))}, "
        f"{title(engine.backend)} {engine.library}",
        f"{layers['layers']} layers, {layers['reformats']} of them reformats:",
        *(f"  {count:4d}  {kind}" for kind, count in layers["kinds"].items()),
    ]
    if layers["int8_wanted"]:
        done = layers["int8_wanted"] - len(layers["not_int8"])
        lines.append(f"{done} of the {layers['int8_wanted']} nodes that should run in INT8 do")
        lines += [f"  not in INT8: {name}" for name in layers["not_int8"]]
    return lines
