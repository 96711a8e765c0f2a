"""A bundle, opened: everything is checked against the manifest before it is believed.

Opening compares names and sizes; each file is hashed when it is read. Engines are left out of the first: they
are built anew from the rest, so that a damaged one must not keep a bundle from being opened and mended. A
commit that was cut off after its decisive moment (see `writer.py`) is read from `.pending/` as if it were
already in its place, so that a reader needs no permission to write.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tledge.bundle import records
from tledge.bundle.files import explain, explained, sha256_bytes, sha256_file
from tledge.bundle.manifest import Entry, Manifest
from tledge.bundle.records import EvalImage, Row, Suspect, TrainFile
from tledge.errors import BundleError, InputError

if TYPE_CHECKING:
    from tledge.bundle.writer import Writer
    from tledge.preprocess import Spec

MANIFEST = "manifest.json"
PENDING = ".pending"
CHECKPOINTS = "checkpoints"
ENGINES = "engines/"
VARIANTS = ("fp32", "fp16", "int8", "int8-cpu")


class Bundle:
    """One `NAME.tledge/` directory: opened by `Bundle.open`, changed inside `with bundle.writing()`."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._verified: set[str] = set()

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Open the bundle at `path`, checking its manifest and the size of each file that is no engine's.

        Raises:
            InputError: there is nothing at `path`.
            BundleError: it is no bundle, is damaged or incomplete, or was made by a newer tledge.
        """
        path = Path(path)
        bundle = cls(path, read_manifest(path))
        for name, entry in bundle.manifest.files.items():
            size = entry.bytes if name.startswith(ENGINES) else bundle._size(name)
            if size != entry.bytes:
                what = "is missing" if size is None else f"has {size} bytes instead of {entry.bytes}"
                raise damaged(path, name, what)
        return bundle

    @staticmethod
    def create(path: str | Path, *, force: bool = False, resume: bool = False) -> Bundle:
        """Return a new, empty, unfinished bundle for `path`; see `tledge.bundle.writer.create`."""
        from tledge.bundle.writer import create

        return create(Path(path), force=force, resume=resume)

    @property
    def state(self) -> str:
        """Return "finished", or "unfinished" while its first making has not ended."""
        return self.manifest.state

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all files in the bundle, sorted."""
        return tuple(sorted(self.manifest.files))

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Return the resolved settings of each command that wrote to the bundle."""
        return self.manifest.settings

    @property
    def lineage(self) -> tuple[dict[str, Any], ...]:
        """Return how each part came to be, oldest first."""
        return self.manifest.lineage

    def has(self, name: str) -> bool:
        """Tell whether the bundle holds the file `name`."""
        return name in self.manifest.files

    def sha256(self, name: str) -> str:
        """Return the hash that the manifest gives for `name`."""
        return self._entry(name).sha256

    def read(self, name: str) -> bytes:
        """Return the bytes of `name`, hashed and compared.

        Raises:
            BundleError: no such file in the bundle, or its bytes are not those that were written.
        """
        entry = self._entry(name)
        path = self._locate(name)
        if self._size(name) is None:
            raise damaged(self.path, name, "is missing")
        with explained(path):
            data = path.read_bytes()
        if sha256_bytes(data) != entry.sha256:
            raise damaged(self.path, name, "has other bytes than those that were written")
        return data

    def file(self, name: str) -> Path:
        """Return the path of `name` after the same check, for libraries that map files themselves."""
        entry = self._entry(name)
        path = self._locate(name)
        if name not in self._verified:
            if self._size(name) is None:
                raise damaged(self.path, name, "is missing")
            with explained(path):
                digest = sha256_file(path)
            if digest != entry.sha256:
                raise damaged(self.path, name, "has other bytes than those that were written")
            self._verified.add(name)
        return path

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Return the class names in the order of the logits."""
        return tuple(self.read("labels.txt").decode().splitlines())

    @cached_property
    def spec(self) -> Spec:
        """Return the preprocessing specification."""
        from tledge.preprocess import Spec

        return Spec.from_json(self.read("preprocess.json").decode(), path=str(self.path / "preprocess.json"))

    @property
    def variants(self) -> tuple[str, ...]:
        """Return the variants whose graphs are in the bundle."""
        return tuple(variant for variant in VARIANTS if self.has(f"{variant}.onnx"))

    @cached_property
    def ledger(self) -> tuple[Row, ...]:
        """Return the rows of the ledger, oldest stage first."""
        return records.decode(Row, self.read("ledger.json"), "ledger.json") if self.has("ledger.json") else ()

    def row(self, stage: str) -> Row | None:
        """Return the ledger's row of `stage`, if it was scored."""
        return next((row for row in self.ledger if row.stage == stage), None)

    def eval_images(self) -> tuple[EvalImage, ...]:
        """Return the images that every stage is scored on (none after `--eval-images 0`)."""
        name = "eval/index.json"
        return records.decode(EvalImage, self.read(name), name) if self.has(name) else ()

    def train_files(self) -> tuple[TrainFile, ...]:
        """Return the images that the network was trained on (none for an imported network)."""
        return (
            records.decode(TrainFile, self.read("train.json"), "train.json") if self.has("train.json") else ()
        )

    def suspects(self) -> tuple[Suspect, ...]:
        """Return the training images whose labels may be wrong, the most suspected first."""
        name = "suspects.json"
        return records.decode(Suspect, self.read(name), name) if self.has(name) else ()

    @property
    def train_root(self) -> str:
        """Return the folder that the train files' paths start from."""
        return str(json.loads(self.read("train.json"))["root"])

    def problems(self) -> tuple[str, ...]:
        """Hash every file and return what is wrong, one line a file; nothing if all is as it was written."""
        found = []
        for name in self.names:
            try:
                self.read(name)
            except (BundleError, InputError) as error:
                found.append(error.message)
        return tuple(found)

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """Hold the bundle's lock and give what changes it. Open the bundle again to read what was written.

        Raises:
            MachineError: another process is writing it, or it may not be written.
        """
        from tledge.bundle.writer import writer

        with writer(self.path) as opened:
            yield opened

    def _entry(self, name: str) -> Entry:
        try:
            return self.manifest.files[name]
        except KeyError:
            raise BundleError(f"{self.path} holds no {name}", path=self.path) from None

    def _locate(self, name: str) -> Path:
        pending = self.path / PENDING / name
        return pending if (self.path / PENDING / MANIFEST).exists() and pending.exists() else self.path / name

    def _size(self, name: str) -> int | None:
        path = self._locate(name)
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise explain(error, path) from error


def read_manifest(path: Path) -> Manifest:
    """Return the manifest in force at `path`: a committed change counts while it is still in `.pending`."""
    if not path.exists():
        raise InputError(
            f"no such bundle: {path}", hint="`tledge finetune DATA -o NAME.tledge` makes one.", path=path
        )
    for place in (path / PENDING / MANIFEST, path / MANIFEST):
        try:
            return Manifest.from_json(place.read_bytes(), str(place))
        except FileNotFoundError:
            continue
        except OSError as error:
            if not path.is_dir():
                break
            raise explain(error, place) from error
    raise BundleError(
        f"{path} is not a tledge bundle: it has no {MANIFEST}",
        hint="A bundle is a directory NAME.tledge made by `tledge finetune` or `tledge import`.",
        path=path,
    )


def damaged(bundle: Path, name: str, what: str) -> BundleError:
    """Return the error for a file of the bundle that is not what the manifest says."""
    anew = "build the engine with --rebuild" if name.startswith(ENGINES) else "make it anew"
    return BundleError(
        f"{bundle}: {name} {what}",
        hint=f"It was changed after it was written: restore the bundle from a copy, or {anew}.",
        path=bundle / name,
    )
