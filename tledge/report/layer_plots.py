"""Plots of what was computed a layer: data in, one SVG element out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tledge.report.plots import above, canvas, drawable
from tledge.report.svg import ACCENT, SECOND, render
from tledge.report.text import clean


def noise(series: Mapping[str, Sequence[float | None]]) -> str:
    """Draw each variant's signal-to-noise of every layer, in graph order; layers in float are gaps."""
    with canvas(2.7) as (figure, axes):
        from matplotlib.ticker import MaxNLocator

        said = []
        look: dict[str, Any] = {"linestyle": "-", "linewidth": 0.8, "markersize": 4}
        for (name, values), colour, mark in zip(series.items(), (ACCENT, SECOND), "os", strict=False):
            numbers = np.array([np.nan if value is None else value for value in values])
            places = np.arange(1, len(numbers) + 1)
            axes.plot(places, numbers, mark, color=colour, label=drawable(name), **look)
            if np.isfinite(numbers).any():
                worst = int(np.nanargmin(numbers))
                said.append(f"{clean(name)}: least {numbers[worst]:.1f} dB at layer {worst + 1}")
        axes.set(xlabel="layer, in the order of the graph", ylabel="signal-to-noise, dB")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid()
        above(axes)
        return render(figure, "plot-noise", "Signal-to-noise of every layer in INT8", "; ".join(said))
