"""`tledge build-engine`: a variant into an engine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tledge.bundle import Bundle
from tledge.cli.options import FilePath, Output, stage_answer, subcommand
from tledge.errors import MachineError

if TYPE_CHECKING:
    from tledge.engine.build import Made
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
    "--precision", type=click.Choice(["int8", "fp16", "fp32", "auto"]), default="int8", help="Which variant."
)
@click.option("--batch", default="1", help="Batch size, or smallest:usual:largest, such as 1:8:16.")
@click.option("--workspace", type=int, metavar="MIB", help="The most scratch memory that the engine may use.")
@click.option("--target", default="", metavar="SM,...", help="GPUs to build for, such as sm86,sm89,sm120.")
@click.option("--rebuild", is_flag=True, help="Replace an engine that does not fit any more.")
def command(
    output: Output,
    bundle: Path,
    backend: str,
    precision: str,
    batch: str,
    workspace: int | None,
    target: str,
    rebuild: bool,
) -> None:
    """Build an engine of BUNDLE and keep it there. One that is there and fits is left as it is."""
    from tledge.engine.build import build_engine
    from tledge.engine.settings import BuildSettings, parse_batch, parse_targets

    if precision == "auto":
        raise MachineError(
            "--precision auto chooses by timing engines on the GPU that they are for, which this release "
            "cannot do",
            hint="Name the precision: --precision int8, or fp16.",
        )
    started = time.monotonic()
    settings = BuildSettings(
        backend, parse_batch(batch), workspace_mib=workspace, targets=parse_targets(target)
    )
    made = build_engine(Bundle.open(bundle), precision, settings, rebuild=rebuild, progress=output.progress)
    seconds = time.monotonic() - started
    document, _ = stage_answer(made.bundle, (), seconds)
    document["engines"] = [made.engine.as_dict() | {"built": made.built}]
    output.show(document, _text(made, seconds))


def _text(made: Made, seconds: float) -> str:
    how = f"built in {seconds:.1f} s" if made.built else "was there and fits; --rebuild builds it anew"
    return "\n".join([*layer_report(made.engine), f"{made.bundle.path / made.engine.plan_name}: {how}"])


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
