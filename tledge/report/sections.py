"""Two parts of the page that not every bundle has: training curves and latency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tledge.bundle import Bundle
from tledge.errors import BundleError, InputError
from tledge.report import plots
from tledge.report.tables import Fact
from tledge.report.text import clean, value

# Keys of an epoch in the history, and what they are called in the plot.
LOSSES = {"loss": "train, augmented", "tune_loss": "tune"}
COLUMNS = ("p50", "p90", "p95", "p99", "p99.9", "max", "mean")


@dataclass(frozen=True)
class Latency:
    """One bench run: its table in milliseconds, what it ran on, whether it is to be believed."""

    title: str
    valid: bool
    reasons: tuple[str, ...]
    columns: tuple[str, ...]
    table: tuple[tuple[str, tuple[str, ...]], ...]
    facts: tuple[Fact, ...]
    plot: str


def training(bundle: Bundle) -> tuple[str, ...] | None:
    """Return the training curves, None where the bundle has none (a probe, or an imported network).

    Raises:
        BundleError: the history in its settings is not readable.
    """
    chosen = bundle.settings.get("finetune", {}).get("chosen")
    history = chosen.get("history") if isinstance(chosen, dict) else None
    if not history:
        return None
    try:
        losses = {title: _series(history, name) for name, title in LOSSES.items()}
        scores = _series(history, "tune_top1")
    except (TypeError, ValueError, AttributeError) as error:
        raise BundleError(
            f"the training history of {bundle.path} is not readable: {error!r}",
            hint="Make the bundle anew.",
            path=bundle.path,
        ) from error
    losses = {title: values for title, values in losses.items() if any(v is not None for v in values)}
    drawn = [plots.curves(losses, "loss", "plot-loss", "Loss of every epoch")]
    if any(value is not None for value in scores):
        drawn.append(
            plots.curves({"tune": scores}, "top-1 on tune, %", "plot-tune", "Top-1 on tune", most=100)
        )
    return tuple(drawn)


def _series(history: Any, name: str) -> list[float | None]:
    return [None if epoch.get(name) is None else float(epoch[name]) for epoch in history]


def latency(index: int, bench: dict[str, Any]) -> Latency:
    """Return one document of `tledge bench --json` for the page; `index` tells several apart.

    Raises:
        InputError: it is no such document.
    """
    try:
        stages = {name: times for name, times in bench["stages_ms"].items() if times is not None}
        rows = [*stages.items(), ("in all", bench["latency_ms"])]
        table = tuple((clean(name), tuple(f"{times[c]:.3f}" for c in COLUMNS)) for name, times in rows)
        title = f"{bench['variant']} on {bench['backend']}, {bench['scenario']}, from {bench['from']}"
        environment = bench["environment"]
        found = [
            Fact("throughput", f"{bench['throughput']:.1f} images/s"),
            Fact("cold start", f"{bench['cold_start_ms']:.0f} ms, process start to first label"),
            Fact("memory", f"{bench['peak_memory_mib']:.0f} MiB at most in a fresh process"),
        ]
        known = ("cpu", "cores", "gpu", "governor")
        found += [Fact(name, value(environment[name])) for name in known if environment.get(name) is not None]
        plot = plots.bars(
            [clean(name) for name in stages],
            [float(times["p50"]) for times in stages.values()],
            "median, ms",
            f"plot-latency-{index}",
            f"Median time of each stage, {clean(title)}",
        )
        return Latency(
            clean(title, 120),
            bench["valid"] is True,
            tuple(clean(reason, 200) for reason in bench["reasons"]),
            COLUMNS,
            table,
            tuple(found),
            plot if stages else "",
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"that is no result of a bench: {error!r}", hint="`tledge bench B --json` prints one."
        ) from error
