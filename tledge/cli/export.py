"""`tledge export`: the plain graph, or a bundle small enough for a board."""

from __future__ import annotations

from pathlib import Path

import click

from tledge.bundle import VARIANTS, Bundle
from tledge.cli.options import FilePath, Output, subcommand


@subcommand("export")
@click.argument("bundle", type=FilePath)
@click.option("--for", "target", type=click.Choice(["onnx", "device"]), required=True, help="What it is for.")
@click.option("-o", "--out", type=FilePath, required=True, help="FILE.onnx, or NAME.tledge for a device.")
@click.option("--variant", type=click.Choice(VARIANTS), default="fp32", help="Which graph, with --for onnx.")
@click.option("--force", is_flag=True, help="Replace what is in the way.")
def command(output: Output, bundle: Path, target: str, out: Path, variant: str, force: bool) -> None:
    """Take out of BUNDLE what is needed elsewhere: one ONNX graph, or a bundle without training weights."""
    opened = Bundle.open(bundle)
    if target == "onnx":
        from tledge.deploy.plain import export_onnx

        digest = export_onnx(opened, variant, out, force=force)
        plain = {"bundle": str(bundle), "out": str(out), "variant": variant, "sha256": digest}
        output.show(plain, f"{out}: variant {variant}, sha256 {digest[:12]}")
        return
    from tledge.deploy.device import export_device

    made = export_device(opened, out, force=force)
    size = sum(entry.bytes for entry in made.manifest.files.values())
    document = {"bundle": str(bundle), "out": str(out), "bytes": size, "variants": list(made.variants)}
    output.show(document, f"{out}: {size / 2**20:.1f} MiB, variants {', '.join(made.variants)}")
