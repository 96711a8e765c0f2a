"""`tledge export`: the plain graph, a bundle small enough for a board, or a repository for Triton."""

from __future__ import annotations

from pathlib import Path

import click

from tledge.bundle import VARIANTS, Bundle
from tledge.cli.options import FilePath, Output, subcommand


@subcommand("export")
@click.argument("bundle", type=FilePath)
@click.option(
    "--for", "target", type=click.Choice(["onnx", "device", "triton"]), required=True, help="What it is for."
)
@click.option("-o", "--out", type=FilePath, required=True, help="FILE.onnx, NAME.tledge, or a folder.")
@click.option("--variant", type=click.Choice(VARIANTS), default="fp32", help="Which graph.")
@click.option("--force", is_flag=True, help="Replace what is in the way.")
def command(output: Output, bundle: Path, target: str, out: Path, variant: str, force: bool) -> None:
    """Take out of BUNDLE what is needed elsewhere: one ONNX graph, or a bundle without training weights.

    With --for triton: a model repository that Triton serves as it is. --variant counts for onnx and triton.
    """
    opened = Bundle.open(bundle)
    if target == "onnx":
        from tledge.deploy.plain import export_onnx

        digest = export_onnx(opened, variant, out, force=force)
        plain = {"bundle": str(bundle), "out": str(out), "variant": variant, "sha256": digest}
        output.show(plain, f"{out}: variant {variant}, sha256 {digest[:12]}")
        return
    if target == "triton":
        from tledge.deploy.triton import export_triton

        files = export_triton(opened, variant, out, force=force)
        served = {"bundle": str(bundle), "out": str(out), "variant": variant, "files": list(files)}
        output.show(served, f"{out}: a Triton model repository, variant {variant}")
        return
    from tledge.deploy.device import export_device

    made = export_device(opened, out, force=force)
    size = sum(entry.bytes for entry in made.manifest.files.values())
    document = {"bundle": str(bundle), "out": str(out), "bytes": size, "variants": list(made.variants)}
    output.show(document, f"{out}: {size / 2**20:.1f} MiB, variants {', '.join(made.variants)}")
