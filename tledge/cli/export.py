"""`tledge export`: the plain graph, a bundle small enough for a board, or what Triton and DeepStream need."""

from __future__ import annotations

from pathlib import Path

import click

from tledge.bundle import VARIANTS, Bundle
from tledge.cli.options import FilePath, Output, subcommand, width_by_height


@subcommand("export")
@click.argument("bundle", type=FilePath)
@click.option(
    "--for",
    "target",
    type=click.Choice(["onnx", "device", "triton", "deepstream"]),
    required=True,
    help="What it is for.",
)
@click.option("-o", "--out", type=FilePath, required=True, help="FILE.onnx, NAME.tledge, or a folder.")
@click.option("--variant", type=click.Choice(VARIANTS), default="fp32", help="Which graph.")
@click.option(
    "--frame",
    callback=width_by_height,
    metavar="WxH",
    default="1920x1080",
    help="For deepstream: the frames that it is given.",
)
@click.option("--force", is_flag=True, help="Replace what is in the way.")
def command(
    output: Output,
    bundle: Path,
    target: str,
    out: Path,
    variant: str,
    frame: tuple[int, int],
    force: bool,
) -> None:
    """Take out of BUNDLE what is needed elsewhere: one ONNX graph, or a bundle without training weights.

    With --for triton: a model repository that Triton serves as it is. With --for deepstream: graph, labels
    and configuration of DeepStream's nvinfer, and what it cannot do as the bundle says. --variant counts for
    all but device.
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
    if target == "deepstream":
        from tledge.deploy.deepstream import export_deepstream

        made_for = export_deepstream(opened, variant, out, frame=frame, force=force)
        for difference in made_for.differences:
            output.progress.note(f"otherwise than preprocess.json says: {difference}")
        wanted = {"bundle": str(bundle), "out": str(out), "variant": variant, "frame": list(frame)}
        wanted |= {"files": list(made_for.files), "differences": list(made_for.differences)}
        output.show(wanted, f"{out}: DeepStream's config_infer.txt, variant {variant}")
        return
    from tledge.deploy.device import export_device

    made = export_device(opened, out, force=force)
    size = sum(entry.bytes for entry in made.manifest.files.values())
    document = {"bundle": str(bundle), "out": str(out), "bytes": size, "variants": list(made.variants)}
    output.show(document, f"{out}: {size / 2**20:.1f} MiB, variants {', '.join(made.variants)}")
