"""Changing a bundle: all of a commit or nothing of it, whenever the process dies.

A commit has one decisive moment. New files are first written to `.pending/`, flushed; then the new manifest
is renamed to `.pending/manifest.json`: from here on the change is real, and readers look into `.pending`
first. The files are then moved to their places, the manifest last. A process that dies before the decisive
moment has changed nothing; one that dies after it has changed everything, and the next writer finishes the
moving.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tledge.bundle import records
from tledge.bundle.files import explained, fsync_directory, sha256_bytes, write_atomic, write_flushed
from tledge.bundle.lock import LOCK_NAME, locked
from tledge.bundle.manifest import Entry, Manifest, safe_name
from tledge.bundle.provenance import machine, now, versions
from tledge.bundle.records import Row
from tledge.bundle.store import CHECKPOINTS, MANIFEST, PENDING, Bundle, read_manifest
from tledge.errors import BundleError, UsageError


class Writer:
    """What changes a bundle while its lock is held. Nothing that was put is real until `commit`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pending = path / PENDING
        self._manifest = read_manifest(path)
        self._files = dict(self._manifest.files)
        self._made: dict[str, str] = {}
        self._rows: list[Row] = []

    @property
    def checkpoints(self) -> Path:
        """Return the directory for what a run needs to go on: not in the manifest, removed by `finish`."""
        return self.path / CHECKPOINTS

    def put(self, name: str, data: bytes | Path) -> None:
        """Stage `data` (bytes, or a file to copy) as the bundle's file `name`.

        Raises:
            BundleError: `name` is no plain relative path.
            MachineError: the disk is full, or the place may not be written.
        """
        if not safe_name(name) or name == MANIFEST:
            raise BundleError(f"a bundle cannot hold a file named {name!r}", path=self.path)
        if isinstance(data, Path):
            with explained(data):
                data = data.read_bytes()
        self._stage(name, data)
        self._made[name] = self._files[name].sha256

    def derive(self, name: str, data: bytes) -> None:
        """Stage what only says in other words what the bundle holds: it has no lineage of its own."""
        self._stage(name, data)

    def _stage(self, name: str, data: bytes) -> None:
        write_flushed(self._pending / name, data)
        self._files[name] = Entry(sha256_bytes(data), len(data))

    def remove(self, name: str) -> None:
        """Stage the removal of the bundle's file `name`."""
        if self._files.pop(name, None) is None:
            raise BundleError(f"{self.path} holds no {name}", path=self.path)

    def adopt(self, other: Bundle, *, leaving_out: tuple[str, ...] = ()) -> None:
        """Stage every file of `other` but those of `leaving_out`, and take over how they came to be."""
        for name in other.names:
            if name not in leaving_out:
                self.put(name, other.read(name))
        self._manifest = dataclasses.replace(
            self._manifest, settings=other.settings, lineage=(*self._manifest.lineage, *other.lineage)
        )

    def row(self, row: Row) -> None:
        """Stage a row of the ledger; it replaces the row of the same stage."""
        self._rows = [known for known in self._rows if known.stage != row.stage] + [row]

    def commit(
        self,
        stage: str,
        *,
        made_from: tuple[str, ...] | list[str] = (),
        settings: dict[str, Any] | None = None,
        seconds: float = 0.0,
        state: str | None = None,
    ) -> Bundle:
        """Make everything staged real, with its lineage, and return the bundle as it is now.

        Args:
            stage: The command or part of it that did the work, such as "calibrate".
            made_from: Names of the bundle's files that the new ones were made from.
            settings: The resolved settings; kept under `stage`.
            seconds: How long the work took.
            state: The bundle's new state, if it changes.
        """
        if self._rows:
            self._put_ledger()
        lineage = self._manifest.lineage
        entry = {
            "stage": stage,
            "made": self._made,
            "made_from": {name: self._manifest.files[name].sha256 for name in made_from},
            "settings": settings or {},
            "versions": versions(),
            "machine": machine(),
            "seconds": round(seconds, 3),
            "finished": now(),
        }
        manifest = Manifest(
            state=state or self._manifest.state,
            files=self._files,
            settings=self._manifest.settings | ({stage: settings} if settings is not None else {}),
            lineage=(*lineage, entry) if self._made or settings is not None else lineage,
        )
        # Directories first: a file that is flushed in a directory that is not is lost with it.
        for directory in {(self._pending / name).parent for name in self._made}:
            fsync_directory(directory)
        write_atomic(self._pending / MANIFEST, manifest.to_json().encode())
        settle(self.path)
        self._manifest, self._files = manifest, dict(manifest.files)
        self._made, self._rows = {}, []
        return Bundle(self.path, manifest)

    def finish(self, stage: str = "finish") -> Bundle:
        """Mark the bundle finished, drop its checkpoints, put it where it was asked for, and open it."""
        self.commit(stage, state="finished")
        with explained(self.checkpoints):
            shutil.rmtree(self.checkpoints, ignore_errors=True)
        final = final_path(self.path)
        if final != self.path:
            exchange(self.path, final)
            self.path = final
        return Bundle.open(final)

    def _put_ledger(self) -> None:
        known = list(Bundle(self.path, self._manifest).ledger)
        fresh = {row.stage: row for row in self._rows}
        merged = [fresh.pop(row.stage, row) for row in known] + list(fresh.values())
        self.put("ledger.json", records.encode(merged))


@contextmanager
def writer(path: Path) -> Iterator[Writer]:
    """Hold the bundle's lock, finish or drop what a dead process left, and give the `Writer`."""
    with locked(path):
        if (path / PENDING / MANIFEST).exists():
            settle(path)
        drop_pending(path)
        try:
            yield Writer(path)
        finally:
            if not (path / PENDING / MANIFEST).exists():
                drop_pending(path)


def settle(path: Path) -> None:
    """Move the files of a committed change to their places, the manifest last; safe to run again."""
    pending = path / PENDING
    manifest = Manifest.from_json((pending / MANIFEST).read_bytes(), str(pending / MANIFEST))
    old = Manifest.from_json((path / MANIFEST).read_bytes(), str(path / MANIFEST))
    touched = set()
    with explained(path):
        for name in manifest.files:
            if (pending / name).exists():
                target = path / name
                target.parent.mkdir(parents=True, exist_ok=True)
                (pending / name).replace(target)
                touched.add(target.parent)
        for directory in touched:
            fsync_directory(directory)
        for name in old.files.keys() - manifest.files.keys():
            (path / name).unlink(missing_ok=True)
        (pending / MANIFEST).replace(path / MANIFEST)
        fsync_directory(path)
    drop_pending(path)


def drop_pending(path: Path) -> None:
    """Remove what was staged and never committed."""
    if (path / PENDING).exists():
        with explained(path / PENDING):
            shutil.rmtree(path / PENDING)


def create(path: Path, *, force: bool = False, resume: bool = False) -> Bundle:
    """Return a new, empty, unfinished bundle for `path`, or the unfinished one that is there with `resume`.

    With `force` a bundle that is in the way stays as it is until the new one is finished: the new one is made
    beside it and takes its place at the end.

    Raises:
        UsageError: something is in the way.
        MachineError: the place may not be written.
    """
    beside = path.with_name(f".{path.name}.next")
    if resume and beside.exists():
        return Bundle.open(beside)
    if not path.exists() and not path.is_symlink():
        shutil.rmtree(beside, ignore_errors=True)
        return _begin(path)
    if not (path / MANIFEST).exists():
        raise UsageError(
            f"{path} is in the way, and is no bundle", hint="Give another place with -o.", path=path
        )
    manifest = read_manifest(path)
    unfinished = manifest.state == "unfinished"
    # A bundle that a command was stopped in before its first commit holds nothing that could be lost.
    if unfinished and (resume or not manifest.files):
        return Bundle.open(path)
    if not force:
        hint = (
            "Give --resume to go on with it, or --force to start anew."
            if unfinished
            else "Give --force to replace it."
        )
        raise UsageError(
            f"{path} is in the way: {'an unfinished' if unfinished else 'a finished'} bundle",
            hint=hint,
            path=path,
        )
    with explained(beside):
        if beside.exists():
            shutil.rmtree(beside)
    return _begin(beside)


def final_path(path: Path) -> Path:
    """Return where the bundle being made at `path` is to end up."""
    replacing = path.name.startswith(".") and path.name.endswith(".next")
    return path.with_name(path.name[1 : -len(".next")]) if replacing else path


def _begin(path: Path) -> Bundle:
    """Make an empty bundle in one step: a directory without manifest is never seen at `path`."""
    fresh = path.with_name(f".{path.name}.new-{os.getpid()}")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _drop_abandoned(path)
        fresh.mkdir()
        write_flushed(fresh / MANIFEST, Manifest().to_json().encode())
        write_flushed(fresh / LOCK_NAME, b"")
        fsync_directory(fresh)
        fresh.rename(path)
        fsync_directory(path.parent)
    return Bundle.open(path)


def _drop_abandoned(path: Path) -> None:
    """Remove empty beginnings of bundles at `path` whose processes are gone."""
    prefix = f".{path.name}.new-"
    for other in path.parent.glob(f"{prefix}*"):
        pid = other.name[len(prefix) :]
        if pid.isdigit() and (int(pid) == os.getpid() or not Path(f"/proc/{pid}").exists()):
            shutil.rmtree(other, ignore_errors=True)


def exchange(new: Path, old: Path) -> None:
    """Put the directory `new` at `old` in one step, and remove what was there."""
    import ctypes

    at_fdcwd, rename_exchange = -100, 2
    libc = ctypes.CDLL(None, use_errno=True)
    with explained(old):
        if libc.renameat2(at_fdcwd, os.fsencode(new), at_fdcwd, os.fsencode(old), rename_exchange) != 0:
            raise OSError(ctypes.get_errno(), "the bundles could not be exchanged")
        fsync_directory(old.parent)
        shutil.rmtree(new)
