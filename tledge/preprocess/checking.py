"""Checks of single values of a specification, each with a message that names the field and the next step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tledge.errors import InputError


def choice(value: object, allowed: Sequence[str], where: str) -> str:
    """Return `value` if it is one of `allowed`; else an error that names the nearest."""
    if isinstance(value, str) and value in allowed:
        return value
    hint = _nearest(value, allowed) or f"it is one of {', '.join(allowed)}"
    raise InputError(f"{where} is {value!r}", hint=hint)


def _nearest(value: object, allowed: Sequence[str]) -> str:
    from difflib import get_close_matches  # which takes longer to import than all of this package's checks

    near = get_close_matches(value, allowed, 1, 0.5) if isinstance(value, str) else []
    return f"did you mean {near[0]!r}?" if near else ""


def keys_of(
    document: object, where: str, allowed: Sequence[str], required: Sequence[str] = ()
) -> dict[str, Any]:
    """Return a copy of a JSON object whose keys are all in `allowed` and include `required`."""
    if not isinstance(document, dict):
        raise InputError(f"{where} is {type(document).__name__}", hint="it is a JSON object")
    for key in document:
        if key not in allowed:
            hint = _nearest(key, allowed) or f"the keys are {', '.join(allowed)}"
            raise InputError(f"unknown key {key!r} in {where}", hint=hint)
    for key in required:
        if key not in document:
            raise InputError(f"{where} has no {key!r}", hint=f"add {key!r}")
    return dict(document)


def number(value: object, where: str) -> float:
    """Return `value` as a finite float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"{where} holds {value!r}", hint="it must be a finite number")
    return float(value)


def whole(value: object, where: str, low: int, high: int) -> int:
    """Return `value` if it is an integer from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{where} holds {value!r}", hint=f"it must be an integer from {low} to {high}")
    return value


def size_of(value: object, where: str, largest: int) -> tuple[int, int]:
    """Return the height and width that a list or tuple holds, each from 1 to `largest`."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise InputError(f"{where} is {value!r}", hint="it is [height, width]")
    return whole(value[0], where, 1, largest), whole(value[1], where, 1, largest)


def triple(value: object, where: str) -> tuple[object, object, object]:
    """Return the three values of a list or tuple, one a channel."""
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        raise InputError(f"{where} is {value!r}", hint="it is a list of three numbers, one a channel")
    return value[0], value[1], value[2]
