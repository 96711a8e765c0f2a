"""Files that are written whole or not at all.

A file is written beside its place, flushed to the disk and renamed: whoever reads it meets the old bytes or
the new, never a mixture and never a part. The directory is flushed too, since a rename that is only in memory
does not survive a power cut.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tledge.errors import InputError, MachineError, TledgeError

CHUNK = 1 << 20


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of the file's bytes in hexadecimal, reading it in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def fsync_directory(path: Path) -> None:
    """Flush the directory itself, so that renames in it are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_flushed(path: Path, data: bytes) -> None:
    """Write `data` to `path`, in place, and flush it to the disk: for files that nobody reads yet."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def write_atomic(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data`, all of it or nothing.

    Raises:
        MachineError: the disk is full, or the place may not be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write_flushed(temporary, data)
        with explained(path):
            temporary.replace(path)
            fsync_directory(path.parent)
    finally:
        with explained(path):
            temporary.unlink(missing_ok=True)


def user_cache(kind: str) -> Path:
    """Return the folder of what may be made anew: `kind` below $XDG_CACHE_HOME/tledge or ~/.cache/tledge."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tledge" / kind


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's errors about `path` into ours."""
    try:
        yield
    except OSError as error:
        raise explain(error, path) from error


def explain(error: OSError, path: Path) -> TledgeError:
    """Return the error that tells a user what the operating system's `error` about `path` means for him."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "Free some space, then run the same command again; what was there before is unharmed."
        return MachineError(f"the disk is full: {path} could not be written", hint=hint, path=path)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return MachineError(
            f"no permission for {path}: {reason}", hint="Choose a place that you may write.", path=path
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
        return InputError(f"{path}: {reason}", path=path)
    return MachineError(f"{path}: {reason}", path=path)
