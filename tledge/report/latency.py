"""What benches found: each run with its verdict, how runs compare, which candidates nothing else beats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tledge.bench import histogram
from tledge.bench.grid import front
from tledge.errors import InputError
from tledge.report import bench_plots
from tledge.report.evidence import Evidence
from tledge.report.tables import Fact
from tledge.report.text import clean, value

COLUMNS = ("p50", "p90", "p95", "p99", "p99.9", "max", "mean")
MACHINE = ("cpu", "cores", "gpu", "governor", "frequency_mhz", "temperature_c", "other_load_cpus", "unknown")
COMPARED = ("p50", "p90", "p99", "mean")
NOTHING = "–"


@dataclass(frozen=True)
class Run:
    """One bench run: its table in milliseconds, what it ran on, whether it is to be believed."""

    title: str
    valid: bool
    reasons: tuple[str, ...]
    columns: tuple[str, ...]
    table: tuple[tuple[str, tuple[str, ...]], ...]
    facts: tuple[Fact, ...]
    stages_plot: str


@dataclass(frozen=True)
class Share:
    """What one run takes as a share of another, with 95 % intervals, one for each of `COMPARED`."""

    of: str
    to: str
    interleaved: bool
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Point:
    """One candidate: top-1 in percent (None: the ledger has no such stage), P90 in ms, images a second."""

    number: int
    name: str
    top1: float | None
    p90: float
    throughput: float
    valid: bool
    front: bool


@dataclass(frozen=True)
class Latency:
    """The part of the page."""

    runs: tuple[Run, ...]
    shares: tuple[Share, ...]
    compared: tuple[str, ...]
    points: tuple[Point, ...]
    distribution_plot: str
    percentiles_plot: str
    pareto_plot: str


def latency(evidence: Evidence, benches: Sequence[dict[str, Any]]) -> Latency:
    """Return what documents of `tledge bench --json` say, and accuracy by the ledger against their latency.

    Raises:
        InputError: one is no such document.
    """
    try:
        found = [run for bench in benches for run in bench.get("runs", [bench])]
        _check(evidence, found)
        titles = _titles(found)
        runs = tuple(_run(*one) for one in zip(range(len(found)), titles, found, strict=True))
        shares = tuple(_share(one) for bench in benches for one in bench.get("ratios") or ())
        points = _points(evidence, titles, found)
        names = [f"{number}. {_stage(run)}" for number, run in enumerate(found, 1)]
        named = [(name, run["latency_ms"]) for name, run in zip(names, found, strict=True)]
        spread = [
            (name, histogram.read(run["latency_histogram"]))
            for name, run in zip(names, found, strict=True)
            if run.get("latency_histogram")
        ]
        return Latency(
            runs,
            shares,
            COMPARED,
            points,
            bench_plots.distribution(spread) if spread else "",
            bench_plots.percentiles(named) if found else "",
            bench_plots.pareto(points) if any(point.top1 is not None for point in points) else "",
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"that is no result of a bench: {error!r}", hint="`tledge bench B --json` prints one."
        ) from error


def _check(evidence: Evidence, runs: Iterable[dict[str, Any]]) -> None:
    """Refuse runs over other images than the bundle's (InputError)."""
    for run in runs:
        digest = run.get("data_sha256")
        if digest and evidence.data_sha256 and digest != evidence.data_sha256:
            raise InputError(
                f"the bench of {_stage(run)} used other images than {evidence.bundle.path} keeps",
                hint="Give a bench of this bundle: `tledge bench B --json > FILE`.",
            )


def _stage(run: dict[str, Any]) -> str:
    return clean(f"{run['variant']}@{run['backend']}")


def _titles(runs: Iterable[dict[str, Any]]) -> list[str]:
    """Return what each run is called, with its number."""
    titles = []
    for number, run in enumerate(runs, 1):
        size, threads = run.get("images_per_query", 1), run.get("threads")
        more = f", {threads} thread{'' if threads == 1 else 's'}" if threads else ""
        more += f", {size} images a query" if size != 1 else ""
        titles.append(clean(f"{number}. {_stage(run)}, {run['scenario']}, from {run['from']}{more}", 120))
    return titles


def _run(index: int, title: str, run: dict[str, Any]) -> Run:
    stages = {name: times for name, times in run["stages_ms"].items() if times is not None}
    if run.get("launch_ms"):
        stages["launch"] = run["launch_ms"]
    rows = [*stages.items(), ("in all", run["latency_ms"])]
    if run.get("waiting_ms"):
        rows.insert(0, ("waiting", run["waiting_ms"]))
    if run.get("early_stopping_ms"):
        rows.append(("estimated by early stopping", run["early_stopping_ms"]))
    table = tuple(
        (clean(name), tuple(_cell(times.get(column)) for column in COLUMNS)) for name, times in rows
    )
    plot = bench_plots.stages(
        [clean(name) for name in stages],
        [float(times["p50"]) for times in stages.values()],
        f"plot-stages-{index}",
        f"Median time of each stage, {title}",
    )
    return Run(
        title,
        run["valid"] is True,
        tuple(clean(reason, 200) for reason in run["reasons"]),
        COLUMNS,
        table,
        tuple(_facts(run)),
        plot if stages else "",
    )


def _cell(number: float | None) -> str:
    return NOTHING if number is None else f"{number:.3f}"


def _facts(run: dict[str, Any]) -> list[Fact]:
    environment = run["environment"]
    found = []
    if run.get("headline"):
        figure = run["headline"]
        number = NOTHING if figure["value"] is None else f"{figure['value']:.4g} {figure['unit']}"
        found.append(
            Fact(
                "headline", f"{figure['metric'].capitalize()} {number}, as MLPerf compares {run['scenario']}"
            )
        )
    found.append(Fact("throughput", f"{run['throughput']:.1f} images/s"))
    if run.get("rate") is not None:
        found.append(Fact("arrivals", f"{run['rate']:g} queries/s"))
    if run.get("queries"):
        found.append(Fact("queries", f"{run['queries']} in {run['seconds']:.1f} s"))
    if run.get("budget"):
        budget = run["budget"]
        held = "held" if budget["held"] else "MISSED"
        text = f"P{budget['percentile']:g} within {budget['ms']:g} ms: {held}, {budget['measured_ms']:.3f} ms"
        found.append(Fact("budget", text))
    if run.get("accuracy"):
        right = run["accuracy"]
        known = "" if right["stage"] is None else f"; {right['wrong']} not as in the ledger"
        found.append(Fact("answers", f"top-1 {right['top1']:.2f} % of {right['images']} images drawn{known}"))
    if run.get("joules_per_image") is not None:
        found.append(Fact("energy", f"{run['joules_per_image']:.3g} J an image"))
    found += [
        Fact("cold start", f"{run['cold_start_ms']:.0f} ms, process start to first label"),
        Fact("memory", f"{run['peak_memory_mib']:.0f} MiB at most in a fresh process"),
    ]
    read = [(name, environment[name]) for name in MACHINE if environment.get(name) is not None]
    found += [Fact(name.replace("_", " "), value(item)) for name, item in read]
    return [Fact(fact.name, clean(fact.text, 200)) for fact in found]


def _share(ratio: dict[str, Any]) -> Share:
    figures = [ratio["latency"][name] for name in COMPARED]
    cells = tuple(f"{one['ratio']:.3f} ({one['low']:.3f} to {one['high']:.3f})" for one in figures)
    return Share(clean(ratio["of"], 120), clean(ratio["to"], 120), ratio["interleaved"] is True, cells)


def _points(evidence: Evidence, titles: Sequence[str], runs: Sequence[dict[str, Any]]) -> tuple[Point, ...]:
    """Return the runs of the first one's scenario and start: the latency of others is another thing."""
    ledger = {row.stage: row.top1 for row in evidence.rows}
    alike = [number for number, run in enumerate(runs) if _kind(run) == _kind(runs[0])]
    titles, runs = [titles[number] for number in alike], [runs[number] for number in alike]
    top1 = [ledger.get(f"{run['variant']}@{run['backend']}") for run in runs]
    times = [float(run["latency_ms"]["p90"]) for run in runs]
    on_front = front([(right, -time) for right, time in zip(top1, times, strict=True)])
    return tuple(
        Point(number + 1, title, right, time, float(run["throughput"]), run["valid"] is True, on)
        for number, title, run, right, time, on in zip(
            alike, titles, runs, top1, times, on_front, strict=True
        )
    )


def _kind(run: dict[str, Any]) -> tuple[Any, Any]:
    return run["scenario"], run["from"]
