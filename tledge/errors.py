"""Every error that a user can cause or meet, each with its exit code.

A message says what happened and where (file, layer, setting); the hint says what to do next. The command line
turns them into one line on standard error, or `{"error": {"kind", "message", "hint", "path"}}` under
`--json`; a traceback is shown only with `-vv`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class TledgeError(Exception):
    """The base of all; raised itself only for a fault of tledge (exit code 1)."""

    kind = "internal"
    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", path: str | Path | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.path = None if path is None else str(path)

    def as_dict(self) -> dict[str, str | None]:
        """Return the body of the JSON error document."""
        return {"kind": self.kind, "message": self.message, "hint": self.hint or None, "path": self.path}


class UsageError(TledgeError):
    """A wrong argument, an unknown backbone or backend, a bundle that is in the way (exit code 2)."""

    kind = "usage"
    exit_code = 2


class MachineError(TledgeError):
    """The machine lacks something: package, GPU, download, disk, memory, permission, lock (exit code 3)."""

    kind = "environment"
    exit_code = 3


class InputError(TledgeError):
    """A fault of the input: no such file or folder, bad data, image or model (exit code 4)."""

    kind = "input"
    exit_code = 4


class AccuracyError(TledgeError):
    """A gate: the drop in accuracy is larger than allowed (exit code 5)."""

    kind = "accuracy"
    exit_code = 5


class BundleError(TledgeError):
    """A bundle, engine or calibration: incompatible, newer, incomplete, foreign or changed (exit code 6)."""

    kind = "bundle"
    exit_code = 6


class LatencyError(TledgeError):
    """A latency budget that was missed, or a bench run that is not valid (exit code 7)."""

    kind = "latency"
    exit_code = 7


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint that names what is most like `word` among `known`, or all of it where nothing is."""
    import difflib

    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(names)}."
