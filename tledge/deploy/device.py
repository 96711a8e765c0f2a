"""`tledge export --for device`: a bundle for a board, that can still score what is built there."""

from __future__ import annotations

from pathlib import Path

from tledge.bundle import Bundle

# The training weights are the largest file and of no use where nothing is trained; the list of training
# images names folders of the training machine. The rest is wanted: graphs, calibration, ledger, eval images.
LEFT_OUT = ("model.safetensors", "train.json")


def export_device(bundle: Bundle, out: Path, *, force: bool = False) -> Bundle:
    """Copy `bundle` to `out` without what only training needs, and return the copy.

    Raises:
        UsageError: `out` is in the way and `force` is not given.
        BundleError: a file of `bundle` is damaged; nothing is at `out` then.
        MachineError: `out` cannot be written.
    """
    made = Bundle.create(out, force=force)
    with made.writing() as writer:
        writer.adopt(bundle, leaving_out=LEFT_OUT)
        return writer.finish()
