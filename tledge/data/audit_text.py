"""An audit in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tledge.data import likeness

if TYPE_CHECKING:
    from tledge.data.audit import Audit

_SHOWN = 10


def lines(audit: Audit) -> list[str]:
    """Return the audit as a person reads it: what is there, then what is wrong, worst first."""
    from tledge.data.audit import FEW, IMBALANCED, LONG, SMALL_SIDE

    text = _overview(audit)
    text += _listed("unreadable", (reason for _, reason in audit.unreadable), len(audit.unreadable))
    text += _listed("the same file in two splits", _pairs(audit.across), len(audit.across))
    text += _listed("the same file in two classes", _groups(audit.conflicting), len(audit.conflicting))
    text += _listed("the same file more than once", _groups(audit.exact), len(audit.exact))
    text += _listed("nearly the same image in two splits", _pairs(audit.near_across), len(audit.near_across))
    more = " (the first)" if len(audit.near) >= likeness.MOST else ""
    text += _listed(f"nearly the same image{more}", _pairs(audit.near), len(audit.near))
    few = (f"{split}: {name} has {count}" for split, name, count in audit.few)
    text += _listed(f"classes with fewer than {FEW} images", few, len(audit.few))
    if audit.imbalance >= IMBALANCED:
        text.append(f"imbalanced: the largest class of train has {audit.imbalance:.0f} times the smallest")
    odd = {mode: count for mode, count in audit.modes.items() if mode not in ("RGB", "grey")}
    odd |= {"grey": audit.modes["grey"]} if 0 < audit.modes.get("grey", 0) < sum(audit.modes.values()) else {}
    if odd:
        text.append("odd modes (made RGB by the rule of docs/data.md): " + _counts(odd))
    text += _listed(f"shorter side under {SMALL_SIDE} pixels", audit.small, len(audit.small))
    text += _listed(f"more than {LONG:.0f} times as long as wide", audit.long, len(audit.long))
    if audit.rotated:
        text.append(f"turned by EXIF (and turned back when read): {audit.rotated}")
    if audit.ignored:
        text.append("not taken for images: " + _counts(audit.ignored))
    if not problems(audit):
        text.append("nothing wrong was found")
    return text


def problems(audit: Audit) -> int:
    """Return the number of findings that a person should act on."""
    return len(audit.unreadable) + len(audit.exact) + len(audit.near) + len(audit.few)


def _overview(audit: Audit) -> list[str]:
    text = []
    for split, classes in audit.counts.items():
        sizes = sorted(classes.values())
        text.append(
            f"{split}: {sum(sizes)} images, {len(sizes)} classes, {sizes[0]} to {sizes[-1]} a class"
            f" (median {sizes[len(sizes) // 2]})"
        )
    low, middle, high = audit.sides
    text.append(f"shorter side: {low} to {high} pixels (median {middle}); {_counts(audit.kinds)}")
    return text


def _listed(title: str, items: Iterable[str], count: int) -> list[str]:
    if not count:
        return []
    shown = [item for item, _ in zip(items, range(_SHOWN), strict=False)]
    rest = [f"  ... and {count - _SHOWN} more (all with --json)"] if count > _SHOWN else []
    return [f"{title}: {count}", *(f"  {item}" for item in shown), *rest]


def _pairs(pairs: Sequence[tuple[str, str]]) -> Iterable[str]:
    return (f"{first} = {second}" for first, second in pairs)


def _groups(groups: Sequence[tuple[str, ...]]) -> Iterable[str]:
    return (" = ".join(group) for group in groups)


def _counts(counts: object) -> str:
    assert isinstance(counts, dict)
    return ", ".join(f"{count} {name}" for name, count in counts.items())
