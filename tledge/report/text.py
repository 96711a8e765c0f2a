"""Words of others (labels, file names, settings) made fit to be shown. Escaping is the template's task."""

from __future__ import annotations

import unicodedata
from typing import Any

LONGEST = 80  # characters of a label or a name that are shown
EMPTY = "(empty)"
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def clean(value: object, longest: int = LONGEST) -> str:
    """Return `value` as one line of at most `longest` characters that disturbs nothing around it.

    Control characters, line ends, lone surrogates and marks that turn the direction of the text around them
    become U+FFFD; what is too long loses its middle; what is empty says so.
    """
    text = "".join(REPLACEMENT if _disturbs(character) else character for character in str(value))
    if not text.strip():
        return EMPTY
    if len(text) <= longest:
        return text
    head = (longest - 1) // 2
    return f"{text[:head]}…{text[len(text) - (longest - 1 - head) :]}"


def _disturbs(character: str) -> bool:
    # Cc: controls; Cs: surrogates; Cn: U+FFFE and the like; Zl, Zp: line ends; then what turns direction.
    return unicodedata.category(character) in ("Cc", "Cs", "Cn", "Zl", "Zp") or unicodedata.bidirectional(
        character
    ) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


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
