"""The ledger as a short Markdown table, for a pull request."""

from __future__ import annotations

from tledge.bundle import Row
from tledge.bundle.text import literal
from tledge.report.compare import Compared
from tledge.report.evidence import Evidence

NOTHING = "–"


def markdown(evidence: Evidence, compared: Compared | None = None, other: Evidence | None = None) -> str:
    """Return the ledger of the bundle, or of two side by side, as a GitHub table with a heading."""
    name = literal(evidence.bundle.path.name)
    if not evidence.rows:
        return f"### {name}\n\nNo stage was scored yet."
    if compared is None or other is None:
        head = ["stage", "images", "top-1 %", "95 % interval", "top-5 %", "agreement %", "flips"]
        body = [
            [
                literal(row.stage),
                str(row.n),
                f"{row.top1:.2f}",
                f"{row.top1_low:.1f} to {row.top1_high:.1f}",
                f"{row.top5:.2f}",
                NOTHING if row.agreement is None else f"{row.agreement:.2f}",
                NOTHING if row.flips is None else str(row.flips),
            ]
            for row in evidence.rows
        ]
        return "\n".join([f"### {name}", "", *table(head, body)])
    second = literal(other.bundle.path.name)
    head = ["stage", f"{name}, top-1 %", f"{second}, top-1 %", "change, points", "flips"]
    body = []
    for pair in compared.stages:
        paired = pair.paired
        change = _change(pair.first, pair.second)
        if paired is not None:
            change += f" ({-paired.drop_high:+.2f} to {-paired.drop_low:+.2f})"
        body.append(
            [
                literal(pair.stage),
                _top1(pair.first),
                _top1(pair.second),
                change,
                NOTHING if paired is None else str(len(paired.flips)),
            ]
        )
    lines = [f"### {name} and {second}", "", *table(head, body)]
    if any(pair.paired for pair in compared.stages):
        lines += ["", "In brackets: one-sided 95 % bounds of the change, paired on the same images."]
    return "\n".join(lines)


def table(head: list[str], body: list[list[str]]) -> list[str]:
    """Return the lines of a table: the first column to the left, the others to the right."""
    rule = [":--", *["--:"] * (len(head) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (head, rule, *body)]


def _top1(row: Row | None) -> str:
    return NOTHING if row is None else f"{row.top1:.2f} ({row.top1_low:.1f} to {row.top1_high:.1f})"


def _change(first: Row | None, second: Row | None) -> str:
    return NOTHING if first is None or second is None else f"{second.top1 - first.top1:+.2f}"
