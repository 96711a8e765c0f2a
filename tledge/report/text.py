"""Words of others (labels, file names, settings) made fit to be shown. Escaping is the template's task."""

from __future__ import annotations

from typing import Any

from tledge.bundle.text import clean

__all__ = ["clean", "plural", "value"]


def value(item: Any) -> str:
    """Return a setting's value for people: numbers short, lists and tables on one line."""
    if item is None:
        return "none"
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, float):
        return f"{item:.6g}"
    if isinstance(item, dict):
        return clean(", ".join(f"{key} {value(inner)}" for key, inner in item.items()), 200)
    if isinstance(item, (list, tuple)):
        return clean(", ".join(value(inner) for inner in item), 200) if item else "none"
    return clean(item, 200)


def plural(count: int, one: str, many: str = "") -> str:
    """Return "1 image", "2 images"."""
    return f"{count} {one if count == 1 else many or one + 's'}"
