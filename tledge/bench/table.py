"""A bench result as text for a terminal."""

from __future__ import annotations

from typing import Any

COLUMNS = ("p50", "p90", "p95", "p99", "p99.9", "max", "mean")


def text(result: dict[str, Any]) -> str:
    """Return the result of `tledge.bench.run` as a table that ends with whether to believe it."""
    lines = [
        f"{result['scenario']}, from {result['from']} to label: {result['variant']} on {result['backend']} "
        f"({result['device']}, {result['threads']} threads), {result['queries']} queries",
        "",
        f"{'ms':<12}" + "".join(f"{name:>9}" for name in COLUMNS),
    ]
    lines += [_row(name, times) for name, times in result["stages_ms"].items() if times is not None]
    lines += [_row("in all", result["latency_ms"]), ""]
    parts = ", ".join(f"{name} {value:.0f}" for name, value in result["cold_start_parts_ms"].items())
    lines += [
        f"throughput   {result['throughput']:.1f} images/s",
        f"cold start   {result['cold_start_ms']:.0f} ms ({parts})",
        f"memory       {result['peak_memory_mib']:.0f} MiB at most in a fresh process",
        f"graph        {result['graph_mib']:.1f} MiB",
        f"machine      {result['environment']['cpu']}, {result['environment']['cores']} cores",
        "VALID" if result["valid"] else "NOT VALID:",
    ]
    return "\n".join([*lines, *(f"  - {reason}" for reason in result["reasons"])])


def _row(name: str, times: dict[str, float]) -> str:
    return f"{name:<12}" + "".join(f"{times[column]:>9.3f}" for column in COLUMNS)
