"""Words of others (labels, file names, settings) made fit to be shown."""

from __future__ import annotations

import re
import unicodedata

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


def literal(text: object) -> str:
    """Return the text so that Markdown and the HTML in it show it as it is, in a table cell too."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&$])", r"\\\1", clean(text))
