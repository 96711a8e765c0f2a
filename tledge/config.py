"""Settings from a TOML file: `--config FILE.toml`.

A key at the top is for the command that is run; a table named after a command is for that command alone, so
that one file can hold the settings of a whole project. Flags win over both. A key that the command does not
know is an error.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tledge.errors import InputError, UsageError, nearest


def read(path: Path, command: str, commands: Collection[str], options: Collection[str]) -> dict[str, Any]:
    """Return what the file at `path` sets for `command`, by option name (with underscores).

    Args:
        path: The TOML file.
        command: The command that is run.
        commands: All commands, whose names may head a table.
        options: The names of the options that `command` knows.

    Raises:
        InputError: the file is missing or is not TOML.
        UsageError: a key or a table is unknown; the nearest known one is named.
    """
    document = parse(path)
    tables = {key: value for key, value in document.items() if isinstance(value, dict)}
    for name in tables:
        if name not in commands:
            hint = nearest(name, commands)
            raise UsageError(f"{path}: no command is named [{name}]", hint=hint, path=path)
    settings = {key: value for key, value in document.items() if key not in tables} | tables.get(command, {})
    known = {option.replace("_", "-") for option in options}
    for key in settings:
        if key.replace("_", "-") not in known:
            hint = nearest(key.replace("_", "-"), known)
            raise UsageError(f"{path}: `tledge {command}` has no setting {key!r}", hint=hint, path=path)
    return {key.replace("-", "_"): value for key, value in settings.items()}


def parse(path: Path) -> dict[str, Any]:
    """Return the document of a TOML file.

    Raises:
        InputError: the file is missing or is not TOML.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"no such settings file: {path}", path=path) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}", path=path) from error
    return document
