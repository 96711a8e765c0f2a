"""`tledge preprocess`: the input tensor of one image, exactly as a device makes it."""

from __future__ import annotations

from pathlib import Path

import click

from tledge.bundle import Bundle
from tledge.cli.options import FilePath, Output, subcommand


@subcommand("preprocess")
@click.argument("bundle", type=FilePath)
@click.argument("image", type=FilePath)
@click.option("-o", "--out", type=FilePath, required=True, help="Where the tensor goes, a NumPy file.")
@click.option(
    "--with", "using", type=click.Choice(["host", "cuda", "pillow"]), default="host", help="Who makes it."
)
def command(output: Output, bundle: Path, image: Path, out: Path, using: str) -> None:
    """Write the input tensor of IMAGE under BUNDLE's specification to a .npy file (1 x C x H x W)."""
    import io

    import numpy as np

    from tledge.bundle.files import explained, sha256_bytes, write_atomic
    from tledge.data import decode
    from tledge.preprocess import preprocessor

    spec = Bundle.open(bundle).spec
    with explained(image):
        data = image.read_bytes()
    pixels = decode.image(data, spec=spec, name=str(image))
    if using == "cuda":
        from tledge.cuda.preprocessor import CudaPreprocessor

        with CudaPreprocessor(spec) as on_gpu:
            tensor = on_gpu(pixels)[np.newaxis]
    else:
        tensor = preprocessor(spec, using=using)(pixels)[np.newaxis]
    file = io.BytesIO()
    np.save(file, tensor)
    write_atomic(out, file.getvalue())
    document = {
        "image": str(image),
        "out": str(out),
        "with": using,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype.name,
        "sha256": sha256_bytes(tensor.tobytes()),
    }
    output.show(document, f"{out}: {tensor.dtype.name} {list(tensor.shape)}, sha256 {document['sha256']}")
