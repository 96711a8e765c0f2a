"""A bench result as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

COLUMNS = ("p50", "p90", "p95", "p99", "p99.9", "max", "mean")
COMPARED = ("p50", "p90", "p99", "mean")
FRONTS = {"pareto": "latency", "pareto_throughput": "throughput"}


def text(result: dict[str, Any]) -> str:
    """Return the result of `tledge.bench.run` as tables; each run ends with whether to believe it."""
    if "grid" in result:
        return _grid(result)
    parts = [_run(run) for run in result.get("runs", [result])]
    if result.get("ratios"):
        parts.append(_ratios(result["ratios"]))
    return "\n\n".join(parts)


def _run(run: dict[str, Any]) -> str:
    each = "" if run["images_per_query"] == 1 else f" of {run['images_per_query']} images"
    lines = [
        f"{run['scenario']}, from {run['from']} to label: {run['variant']} on {run['backend']} "
        f"({run['device']}, {run['threads']} threads), {run['queries']} queries{each}",
        "",
        f"{'ms':<12}" + "".join(f"{name:>9}" for name in COLUMNS),
    ]
    if run["waiting_ms"] is not None:
        lines.append(_row("waiting", run["waiting_ms"]))
    lines += [_row(name, times) for name, times in run["stages_ms"].items() if times is not None]
    if run["launch_ms"] is not None:
        lines.append(_row("launch", run["launch_ms"]))
    lines += [_row("in all", run["latency_ms"]), _row("estimated", run["early_stopping_ms"]), ""]
    parts = ", ".join(f"{name} {value:.0f}" for name, value in run["cold_start_parts_ms"].items())
    lines += [
        f"throughput   {run['throughput']:.1f} images/s",
        *_accuracy(run["accuracy"]),
        *_budget(run),
        *_energy(run),
        f"cold start   {run['cold_start_ms']:.0f} ms ({parts})",
        f"memory       {run['peak_memory_mib']:.0f} MiB at most in a fresh process",
        f"graph        {run['graph_mib']:.1f} MiB" + _engine(run["engine_mib"]),
        f"machine      {run['environment']['cpu']}, {run['environment']['cores']} cores",
        "VALID" if run["valid"] else "NOT VALID:",
    ]
    return "\n".join([*lines, *(f"  - {reason}" for reason in run["reasons"])])


def _engine(mib: float | None) -> str:
    return "" if mib is None else f", its engine {mib:.1f} MiB"


def _row(name: str, times: dict[str, float | None]) -> str:
    cells = [times.get(column) for column in COLUMNS]
    line = f"{name:<12}" + "".join(f"{'' if cell is None else format(cell, '.3f'):>9}" for cell in cells)
    return line.rstrip()


def _accuracy(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return []
    said = f"top-1        {found['top1']:.2f} % of the {found['images']} eval images that were answered"
    if found["stage"] is None:
        return [said + "; the ledger has no such stage to compare with"]
    return [said + f", as in the ledger but for {found['wrong']}"]


def _budget(run: dict[str, Any]) -> list[str]:
    budget = run["budget"]
    if budget is None:
        return []
    at = "" if run["rate"] is None else f" at {run['rate']:g} queries/s"
    said = (
        f"{budget['measured_ms']:.3f} ms; {budget['over']} of {run['queries']} queries over, "
        f"{budget['allowed_over']} allowed"
    )
    if run["queries"] < budget["queries_needed"]:
        said += f"; {budget['queries_needed']} queries are needed to tell"
    verdict = "held" if budget["held"] else "MISSED"
    return [f"budget       P{budget['percentile']:g} within {budget['ms']:g} ms{at}: {verdict} ({said})"]


def _energy(run: dict[str, Any]) -> list[str]:
    watts = run["environment"]["power_w"]
    if watts is None:
        return []
    scopes = run["environment"]["power_of"]
    said = ", ".join(f"{scopes[name]} {value:.1f} W ({name})" for name, value in watts.items())
    each = run["joules_per_image"]
    return [f"power        {said}" + ("" if each is None else f", {each:.3f} J an image")]


def _ratios(ratios: Sequence[dict[str, Any]]) -> str:
    lines = []
    for ratio in ratios:
        cells = [
            f"{name} {found['ratio']:.3f} ({found['low']:.3f} to {found['high']:.3f})"
            for name, found in ((name, ratio["latency"][name]) for name in COMPARED)
        ]
        taken = "" if ratio["interleaved"] else ", not in one run" + _machine(ratio["machine"])
        lines += [f"{ratio['of']} against {ratio['to']}{taken}:", "  " + ", ".join(cells)]
    return "\n".join(["latency as a share, with 95 % intervals", *lines])


def _machine(share: float | None) -> str:
    return "" if share is None else f"; plain work took {share:.3f} of its time then"


def _grid(result: dict[str, Any]) -> str:
    lines = result["grid"]
    wide = max(len(line["name"]) for line in lines)
    found = [f"{'':<{wide}}{'top-1 %':>9}{'P90 ms':>10}{'images/s':>10}  front"]
    for line in lines:
        top1 = "-" if line["top1"] is None else format(line["top1"], ".2f")
        fronts = [word for key, word in FRONTS.items() if line[key]]
        marks = [*fronts, *([] if line["valid"] else ["NOT VALID"])]
        found.append(
            f"{line['name']:<{wide}}{top1:>9}{line['p90_ms']:>10.3f}{line['throughput']:>10.1f}  "
            + ", ".join(marks)
        )
    wrong = [
        f"  - {line['name']}: {reason}"
        for line, run in zip(lines, result["runs"], strict=True)
        for reason in run["reasons"]
    ]
    return "\n".join([line.rstrip() for line in found] + (["", "NOT VALID:", *wrong] if wrong else []))
