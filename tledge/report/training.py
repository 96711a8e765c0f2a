"""The training curves, which not every bundle has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tledge.bundle import Bundle
from tledge.errors import BundleError
from tledge.report import plots
from tledge.report.text import clean

MOST_SUSPECTS = 20
# Keys of an epoch in the history, and what they are called in the plot.
LOSSES = {"loss": "train, augmented", "tune_loss": "tune"}


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


@dataclass(frozen=True)
class SuspectRow:
    """A training image whose label may be wrong, as the page shows it; probabilities 0 to 1."""

    file: str
    label: str
    given: float
    suggested: str
    probability: float


@dataclass(frozen=True)
class Suspects:
    """How many there are, and the most suspected."""

    count: int
    rows: tuple[SuspectRow, ...]


def suspects(bundle: Bundle) -> Suspects | None:
    """Return the training images whose labels may be wrong; None where there are none, or nobody looked."""
    found = bundle.suspects()
    rows = tuple(
        SuspectRow(
            clean(one.path, 60),
            clean(bundle.labels[one.label]),
            one.given,
            clean(bundle.labels[one.suggested]),
            one.probability,
        )
        for one in found[:MOST_SUSPECTS]
    )
    return Suspects(len(found), rows) if found else None


def _series(history: Any, name: str) -> list[float | None]:
    return [None if epoch.get(name) is None else float(epoch[name]) for epoch in history]
