"""`tledge export --for onnx`: one graph as a file of its own; labels and spec travel in its metadata."""

from __future__ import annotations

from pathlib import Path

from tledge.bundle import Bundle
from tledge.bundle.files import write_atomic
from tledge.errors import UsageError, nearest


def export_onnx(bundle: Bundle, variant: str, out: Path, *, force: bool = False) -> str:
    """Write the graph of `variant` to `out` and return its SHA-256.

    Raises:
        UsageError: the bundle has no such variant, or `out` exists and `force` is not given.
        MachineError: the file cannot be written.
    """
    if variant not in bundle.variants:
        hint = nearest(variant, bundle.variants)
        raise UsageError(f"{bundle.path} has no variant {variant}", hint=hint, path=bundle.path)
    if out.exists() and not force:
        raise UsageError(f"{out} is in the way", hint="Give --force to replace it.", path=out)
    name = f"{variant}.onnx"
    write_atomic(out, bundle.read(name))
    return bundle.sha256(name)
