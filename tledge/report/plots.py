"""The plots of the report, by matplotlib: data in, one SVG element out. Words of others are cleaned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tledge.bundle import Row
from tledge.errors import MachineError
from tledge.report.evidence import Answers, Indices
from tledge.report.reliability import Reliability
from tledge.report.svg import ACCENT, BAD, FAINT, GOOD, INK, PAPER, SECOND, render
from tledge.report.text import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tledge.report.calibration import Histogram

WIDTH = 5.0  # inches, 360 units of SVG: a phone's width, so that the letters are readable there


@contextmanager
def canvas(height: float) -> Iterator[tuple[Figure, Axes]]:
    """Give a figure `height` inches high, with one empty plot, in the page's look; raises as `sheet`."""
    with sheet(height) as figure:
        yield figure, figure.add_subplot()


@contextmanager
def sheet(height: float) -> Iterator[Figure]:
    """Give an empty figure `height` inches high in the page's look.

    Raises:
        MachineError: matplotlib is missing.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MachineError(
            "the report's plots need the package matplotlib", hint='pip install "tledge[report]"'
        ) from error
    look: Any = {
        "font.size": 11,
        "text.parse_math": False,  # a stage or class may be named $x$
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": FAINT,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "grid.color": FAINT,
        "grid.linewidth": 0.5,
        "grid.alpha": 0.5,
        "legend.frameon": False,
        "legend.labelcolor": INK,
    }
    with mpl.rc_context(look):
        yield Figure(figsize=(WIDTH, height), layout="constrained")


def intervals(rows: Sequence[Row]) -> str:
    """Draw each stage's top-1 with its 95 % interval."""
    places = np.arange(len(rows))[::-1]
    with canvas(0.8 + 0.34 * len(rows)) as (figure, axes):
        for place, row in zip(places, rows, strict=True):
            axes.plot([row.top1_low, row.top1_high], [place, place], color=ACCENT, linewidth=2.5)
            axes.plot([row.top1], [place], "o", color=ACCENT, markersize=7, markeredgecolor=PAPER)
        axes.set_yticks(places, [drawable(row.stage, 30) for row in rows])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel("top-1, %, with its 95 % interval")
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        said = "; ".join(
            f"{clean(row.stage)} {row.top1:.2f} ({row.top1_low:.1f} to {row.top1_high:.1f})" for row in rows
        )
        return render(figure, "plot-intervals", "Top-1 of every stage in percent", said)


def reliability_diagram(measured: Reliability) -> str:
    """Draw how often answers of each confidence are right, against the diagonal of an honest network."""
    with canvas(3.7) as (figure, axes):
        axes.plot(
            [0, 1], [0, 1], color=FAINT, linestyle=(0, (4, 3)), linewidth=1.2, label="as often as it says"
        )
        for index, part in enumerate(part for part in measured.bins if part.count):
            share, sure = part.accuracy or 0.0, part.confidence or 0.0
            axes.bar(
                part.low,
                share,
                width=part.high - part.low,
                align="edge",
                color=ACCENT,
                alpha=0.85,
                edgecolor=PAPER,
                label="" if index else "share right",
            )
            axes.plot(
                [part.low, part.high],
                [sure, sure],
                color=BAD,
                linewidth=2,
                label="" if index else "mean confidence",
            )
        axes.set(
            xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence of the answer", ylabel="share of answers right"
        )
        axes.grid()
        above(axes)
        said = f"Expected calibration error {measured.error:.2f} points over {len(measured.bins)} bins."
        return render(figure, "plot-reliability", "Reliability diagram", said)


def confidence_histogram(answers: Answers, truth: Indices) -> str:
    """Draw how sure the right and the wrong answers are."""
    right = answers.best == truth
    edges = np.linspace(0, 1, 21)
    with canvas(2.6) as (figure, axes):
        from matplotlib.ticker import NullLocator

        axes.hist(
            [answers.confidence[right], answers.confidence[~right]],
            bins=edges.tolist(),
            stacked=True,
            color=[GOOD, BAD],
            label=["right", "wrong"],
            edgecolor=PAPER,
        )
        axes.set_yscale("symlog", linthresh=10)
        axes.set_yticks([tick for tick in (0, 5, 10, 100, 1000, 10000) if tick <= 2 * len(truth)])
        axes.yaxis.set_major_formatter("{x:.0f}")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set(xlim=(0, 1), xlabel="confidence of the answer", ylabel="images")
        axes.grid(axis="y")
        above(axes)
        said = (
            f"{int(right.sum())} right answers, median confidence {_median(answers.confidence[right])}, "
            f"{int((~right).sum())} wrong ones, theirs {_median(answers.confidence[~right])}."
        )
        return render(figure, "plot-confidence", "Confidence of right and wrong answers", said)


def heat_map(counts: npt.NDArray[np.int64]) -> str:
    """Draw a large confusion matrix: each row's shares, row the true class, column the answer."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with canvas(4.6) as (figure, axes):
        from matplotlib.colors import LinearSegmentedColormap

        # A raster knows no CSS variable: one blue at a rising opacity is seen on dark and on light.
        blue = LinearSegmentedColormap.from_list("share", [(0.24, 0.52, 0.92, 0.0), (0.24, 0.52, 0.92, 1.0)])
        axes.imshow(np.sqrt(shares), cmap=blue, vmin=0, vmax=1, interpolation="nearest")
        axes.set(xlabel="answer (class number)", ylabel="truth (class number)")
        said = f"{len(counts)} classes; the share of each row on the diagonal is the class's recall."
        return render(figure, "plot-confusion", "Confusion matrix", said)


def curves(
    series: Mapping[str, Sequence[float | None]],
    label: str,
    key: str,
    title: str,
    *,
    most: float | None = None,
) -> str:
    """Draw lines over epochs, counted from 1; a missing value is a gap. `most`: the largest there can be."""
    with canvas(2.7) as (figure, axes):
        from matplotlib.ticker import MaxNLocator

        last = []
        for (name, values), colour, mark in zip(
            series.items(), (ACCENT, SECOND, GOOD, BAD), "os^D", strict=False
        ):
            numbers = np.array([np.nan if value is None else float(value) for value in values])
            axes.plot(
                np.arange(1, len(numbers) + 1),
                numbers,
                color=colour,
                linewidth=2,
                marker=mark,
                markersize=4,
                label=drawable(name),
            )
            last.append(f"{clean(name)} ends at {numbers[-1]:.4g}")
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid()
        if most is not None:
            axes.set_ylim(top=min(axes.get_ylim()[1], 1.005 * most))
        above(axes)
        return render(figure, key, title, "; ".join(last))


def histograms(shown: Sequence[Histogram]) -> str:
    """Draw the values of some tensors on a logarithmic scale, with the range chosen for each."""
    rows = -(-len(shown) // 2)
    with sheet(0.2 + 1.35 * rows) as figure:
        cells = figure.subplots(rows, 2, squeeze=False).flat
        for one, axes in zip(shown, cells, strict=False):
            axes.stairs(np.log10(np.array(one.counts) + 1.0), one.edges, fill=True, color=ACCENT)
            for end in (one.low, one.high):
                axes.axvline(end, color=BAD, linewidth=1.2, linestyle=(0, (3, 2)))
            axes.set_title(f"{drawable(one.name, 22)}: {one.clipped:.2g} % cut", fontsize=9)
            axes.set_yticks([])
            axes.tick_params(labelsize=8)
            axes.spines["left"].set_visible(False)
        for axes in figure.axes[len(shown) :]:
            axes.set_axis_off()
        said = "; ".join(
            f"{one.name} {one.edges[0]:.3g} to {one.edges[-1]:.3g}, range {one.low:.3g} to {one.high:.3g}"
            for one in shown
        )
        return render(figure, "plot-histograms", "Histograms of tensors", said)


def bars(names: Sequence[str], values: Sequence[float], label: str, key: str, title: str) -> str:
    """Draw one horizontal bar a name, the first on top."""
    places = np.arange(len(names))[::-1]
    with canvas(0.8 + 0.26 * len(names)) as (figure, axes):
        axes.barh(places, values, color=ACCENT, height=0.7)
        axes.set_yticks(places, [drawable(name, 34) for name in names])
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_xlabel(label)
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        said = "; ".join(f"{clean(name)} {number:.4g}" for name, number in zip(names, values, strict=True))
        return render(figure, key, title, said)


def above(axes: Axes) -> None:
    """Put the legend over the plot, where it hides nothing."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=9, borderaxespad=0.2, columnspacing=1.2
    )


def drawable(text: object, longest: int = 24) -> str:
    """Return a word of others for a plot: in ASCII, since a plot's own font is used to lay it out."""
    return clean(text, longest).replace("…", "...").encode("ascii", "replace").decode("ascii")


def _median(values: npt.NDArray[np.float64]) -> str:
    return f"{np.median(values):.2f}" if len(values) else "none"
