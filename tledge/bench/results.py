"""What `tledge bench --json` printed, read back from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tledge.errors import InputError

HINT = "`tledge bench B --json > FILE` writes one."


def read(path: Path) -> dict[str, Any]:
    """Return the document, of one run or several, in the file at `path`.

    Raises:
        InputError: there is no such file, or it is no such document.
    """
    try:
        document: Any = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", hint=HINT, path=path) from error
    except ValueError as error:
        raise InputError(
            f"{path} is no result of a bench: it is not JSON: {error}", hint=HINT, path=path
        ) from error
    if isinstance(document, dict):
        runs = document.get("runs", [document])
        if runs and isinstance(runs, list) and all(isinstance(r, dict) and "latency_ms" in r for r in runs):
            return document
    raise InputError(f"{path} is no result of a bench", hint=HINT, path=path)
