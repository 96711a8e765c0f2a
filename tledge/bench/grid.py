"""A grid of candidates: which of them nothing else beats, in accuracy and latency together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tledge.bench import accuracy
from tledge.bench.comparison import name
from tledge.bundle import Bundle
from tledge.errors import InputError
from tledge.runtime import machine

BATCHES = (1, 8)  # images a query: one camera, and eight


def variants(bundle: Bundle) -> str:
    """Return every variant of the bundle, as `--variant` takes them."""
    if not bundle.variants:
        raise InputError(f"{bundle.path} holds no graph", hint="`tledge finetune` or `import` makes one.")
    return ",".join(bundle.variants)


def threads() -> list[int]:
    """Return the numbers of threads that a grid tries: one, and every core."""
    return sorted({1, machine.physical_cores()})


def table(bundle: Bundle, runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one line a run: accuracy by the ledger, P90 in ms, and whether it is on a Pareto front.

    `top1` (percent) with its interval is that of the stage in the ledger, None where it was never scored:
    such a run is on no front. `pareto` is for accuracy against the latency of a query, `pareto_throughput`
    for accuracy against images a second.
    """
    lines = []
    for run in runs:
        row = accuracy.scored(bundle, run["variant"], run["backend"])
        lines.append(
            {
                "name": name(run),
                "variant": run["variant"],
                "backend": run["backend"],
                "threads": run["threads"],
                "images_per_query": run["images_per_query"],
                "top1": row.top1 if row else None,
                "top1_low": row.top1_low if row else None,
                "top1_high": row.top1_high if row else None,
                "p90_ms": run["latency_ms"]["p90"],
                "throughput": run["throughput"],
                "valid": run["valid"],
            }
        )
    fast = front([(line["top1"], -line["p90_ms"]) for line in lines])
    much = front([(line["top1"], line["throughput"]) for line in lines])
    return [
        {**line, "pareto": first, "pareto_throughput": second}
        for line, first, second in zip(lines, fast, much, strict=True)
    ]


def front(points: Sequence[tuple[float | None, float]]) -> list[bool]:
    """Tell of each point (more is better in both) whether no other is as good in both and better in one."""

    def beats(a: tuple[float | None, float], b: tuple[float | None, float]) -> bool:
        return a[0] is not None and b[0] is not None and a != b and a[0] >= b[0] and a[1] >= b[1]

    return [point[0] is not None and not any(beats(other, point) for other in points) for point in points]
