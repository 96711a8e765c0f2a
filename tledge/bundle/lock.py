"""One writer a bundle: an advisory lock that the operating system drops with the process, however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tledge.bundle.files import explained
from tledge.errors import MachineError

LOCK_NAME = ".lock"


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the bundle's lock while the block runs.

    Raises:
        MachineError: another process holds it, or the directory may not be written.
    """
    path = directory / LOCK_NAME
    with explained(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            raise MachineError(
                f"{directory} is being written by another process{f' ({holder})' if holder else ''}",
                hint="Wait until it is done, or stop it; the lock goes with the process.",
                path=directory,
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"pid {os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        os.close(descriptor)
