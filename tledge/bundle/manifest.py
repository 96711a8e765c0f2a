"""`manifest.json`: what is in the bundle, with size and hash, and how each part came to be."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from tledge.errors import BundleError

FORMAT = "tledge-bundle"
SCHEMA = 1
STATES = ("unfinished", "finished")


@dataclass(frozen=True)
class Entry:
    """One file of the bundle: SHA-256 (hexadecimal) and size in bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """The whole of `manifest.json`. Replacing this file is what makes a change of the bundle real."""

    state: str = "unfinished"
    files: dict[str, Entry] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    lineage: tuple[dict[str, Any], ...] = ()

    def to_json(self) -> str:
        """Return the document, keys in a fixed order."""
        body = {
            "format": FORMAT,
            "schema": SCHEMA,
            "state": self.state,
            "files": {name: dataclasses.asdict(entry) for name, entry in sorted(self.files.items())},
            "settings": self.settings,
            "lineage": list(self.lineage),
        }
        return json.dumps(body, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, path: str) -> Manifest:
        """Read the document; `path` names it in messages.

        Raises:
            BundleError: it is damaged, of a newer schema, or names files outside the bundle.
        """
        try:
            body = json.loads(text)
            if body["format"] != FORMAT:
                raise BundleError(f"{path} is not the manifest of a tledge bundle", path=path)
            schema = int(body["schema"])
            if schema > SCHEMA:
                raise BundleError(
                    f"{path} has schema {schema}, and this tledge reads up to {SCHEMA}",
                    hint="The bundle was made by a newer tledge: upgrade this one.",
                    path=path,
                )
            manifest = cls(
                state=body["state"],
                files={name: Entry(**entry) for name, entry in body["files"].items()},
                settings=dict(body["settings"]),
                lineage=tuple(body["lineage"]),
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BundleError(
                f"{path} is damaged: {error!r}", hint="Restore the bundle from a copy.", path=path
            ) from error
        manifest._check(path)
        return manifest

    def _check(self, path: str) -> None:
        if self.state not in STATES:
            raise BundleError(f"{path}: unknown state {self.state!r}", path=path)
        for name, entry in self.files.items():
            if not safe_name(name):
                raise BundleError(f"{path} names a file outside the bundle: {name!r}", path=path)
            if (
                not re.fullmatch(r"[0-9a-f]{64}", str(entry.sha256))
                or not isinstance(entry.bytes, int)
                or entry.bytes < 0
            ):
                raise BundleError(f"{path}: the entry of {name!r} is damaged", path=path)


def safe_name(name: str) -> bool:
    """Tell whether `name` is a plain relative path that stays in the bundle and hides nothing."""
    path = PurePosixPath(name)
    return (
        bool(path.parts)
        and str(path) == name
        and not path.is_absolute()
        and "\\" not in name
        and "\0" not in name
        and not any(part.startswith(".") for part in path.parts)
    )
