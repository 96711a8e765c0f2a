"""Plots of bench runs: data in, one SVG element out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tledge.report.plots import bars, canvas, drawable
from tledge.report.svg import ACCENT, BAD, FAINT, GOOD, PAPER, SECOND, render

if TYPE_CHECKING:
    from tledge.bench.histogram import Histogram
    from tledge.report.latency import Point

MARKS = tuple(zip((ACCENT, SECOND, GOOD, BAD), "os^D", strict=True))
# Shares of queries that are slower: from one to the next the axis goes as far again.
PLACES = {"p50": 0.5, "p90": 0.1, "p95": 0.05, "p99": 0.01, "p99.9": 0.001}
COLUMNS = 80  # of a distribution, at most: on a phone one is four pixels wide
FILLED = 2  # distributions whose areas can still be told apart
TICKS = 8
MOST = 4  # runs in one plot: as many as there are colours; the tables have all


def percentiles(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Draw the latency of each percentile, in ms, for the first runs: flat is steady, a rise is a tail."""
    shown = runs[:MOST]
    with canvas(2.6 + 0.11 * len(shown)) as (figure, axes):
        from matplotlib.ticker import NullLocator

        for (name, times), (colour, mark) in zip(shown, MARKS, strict=False):
            axes.plot(
                list(PLACES.values()),
                [float(times[place]) for place in PLACES],
                color=colour,
                marker=mark,
                markersize=5,
                label=drawable(name, 30),
            )
        axes.set_xscale("log")
        axes.invert_xaxis()
        axes.set_xticks(list(PLACES.values()), [place.upper() for place in PLACES])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(bottom=0)
        axes.set(ylabel="latency, ms")
        axes.grid()
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=9, borderaxespad=0.2)
        each = [f"{name}: P50 {times['p50']:.3g}, P99 {times['p99']:.3g} ms" for name, times in shown]
        return render(figure, "plot-percentiles", "Latency at each percentile", "; ".join(each))


def distribution(runs: Sequence[tuple[str, Histogram]]) -> str:
    """Draw how the latencies of the first runs are spread, as shares of each run's queries."""
    shown = runs[:MOST]
    low = min(found.edges[0] for _, found in shown)
    high = max(found.edges[-1] for _, found in shown)
    times = max(1, math.ceil(math.log(high / low) / math.log(shown[0][1].growth) / COLUMNS))
    with canvas(2.6 + 0.11 * len(shown)) as (figure, axes):
        from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

        for (name, found), (colour, _) in zip(shown, MARKS, strict=False):
            drawn = found.coarser(times)
            shares = 100 * np.array(drawn.counts) / sum(drawn.counts)
            if len(shown) <= FILLED:
                axes.stairs(shares, drawn.edges, color=colour, fill=True, alpha=0.25, linewidth=0)
            axes.stairs(shares, drawn.edges, color=colour, linewidth=1.5, label=drawable(name, 30))
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(_round_numbers(low, high)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.set_ylim(bottom=0)
        axes.set(xlabel="latency, ms", ylabel="queries, %")
        axes.grid(axis="y")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=9, borderaxespad=0.2)
        each = [
            f"{name}: {sum(found.counts)} queries, {found.edges[0]:.3g} to {found.edges[-1]:.3g} ms"
            for name, found in shown
        ]
        return render(figure, "plot-distribution", "How the latencies are spread", "; ".join(each))


def _round_numbers(low: float, high: float) -> list[float]:
    """Return round numbers from `low` to `high` for an axis of logarithms, at most `TICKS`."""
    decades = [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    found = [decade for decade in decades if low <= decade <= high][:: 1 + len(decades) // TICKS]
    for steps in ((1, 3), (1, 2, 5), (1, 2, 3, 5, 7), np.arange(1, 10, 0.5), np.arange(1, 10, 0.1)):
        finer = [float(f"{step * decade:.3g}") for decade in decades for step in steps]
        finer = [number for number in finer if low <= number <= high]
        if len(finer) > TICKS:
            break
        found = finer
    return found


def stages(names: Sequence[str], values: Sequence[float], key: str, title: str) -> str:
    """Draw the median of each stage, in ms."""
    return bars(names, values, "median, ms", key, title)


def pareto(points: Sequence[Point], time: str = "P90") -> str:
    """Draw top-1 against latency of what was scored; a line joins what nothing else beats in both.

    `time` is what a point's `p90` is called: another figure of latency may stand there.
    """
    scored = [point for point in points if point.top1 is not None]
    front = sorted((point.p90, point.top1 or 0.0) for point in points if point.front)
    with canvas(3.4) as (figure, axes):
        axes.plot(*zip(*front, strict=True), color=ACCENT, linewidth=1.2, linestyle=(0, (4, 3)))
        for point in scored:
            colour = ACCENT if point.front else FAINT
            place = (point.p90, point.top1 or 0.0)
            axes.plot(*place, "o", color=colour, markersize=9, markeredgecolor=PAPER)
            axes.annotate(str(point.number), place, (6, 5), textcoords="offset points", fontsize=10)
        axes.set(xlabel=f"{time}, ms (less is better)", ylabel="top-1, %")
        axes.set_xlim(left=0)
        axes.margins(x=0.12, y=0.2)
        axes.grid()
        said = "; ".join(f"{point.name}: {point.top1:.2f} %, {point.p90:.3g} ms" for point in scored)
        return render(figure, "plot-pareto", "Accuracy against latency", said)
