"""A folder that is written whole or not at all, for the servers that tledge exports to."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tledge.bundle.files import explained, fsync_directory, write_flushed
from tledge.bundle.writer import exchange
from tledge.errors import UsageError


def write_folder(out: Path, files: dict[str, bytes], *, force: bool = False) -> None:
    """Write `files` (relative path: bytes) as the folder `out`, in one step.

    With `force` a folder that is in the way is replaced, if it holds nothing but what would be written.

    Raises:
        UsageError: something is in the way.
        MachineError: the disk is full, or the place may not be written.
    """
    _check_free(out, files, force=force)
    fresh = out.with_name(f".{out.name}.new-{os.getpid()}")
    try:
        for name, data in files.items():
            write_flushed(fresh / name, data)
        with explained(out):
            for folder in (fresh, *(path for path in fresh.rglob("*") if path.is_dir())):
                fsync_directory(folder)
            if out.exists():
                exchange(fresh, out)
            else:
                fresh.rename(out)
                fsync_directory(out.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _check_free(out: Path, files: dict[str, bytes], *, force: bool) -> None:
    if not out.exists() and not out.is_symlink():
        return
    if not force or not out.is_dir() or out.is_symlink():
        hint = "Give --force to replace it." if out.is_dir() else "Give another place with -o."
        raise UsageError(f"{out} is in the way", hint=hint, path=out)
    foreign = [
        path
        for path in sorted(out.rglob("*"))
        if not path.is_dir() and str(path.relative_to(out)) not in files
    ]
    if foreign:
        raise UsageError(
            f"{out} is in the way, and holds {foreign[0]}, which this export does not write",
            hint="Give another place with -o, or remove it.",
            path=out,
        )
