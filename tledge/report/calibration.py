"""What calibration saw and decided, from `calibration.json`: trials, layers left in float, clipped ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tledge.bundle import Bundle
from tledge.errors import BundleError
from tledge.quantization import calibration_file
from tledge.quantization.layers import clipped_share
from tledge.report import plots
from tledge.report.tables import Fact
from tledge.report.text import clean, plural

SHOWN = 6  # histograms: the tensors that lose most to their range
BARS = 64  # of each: its shape can be seen, and the page stays small


@dataclass(frozen=True)
class Trial:
    """One way that was tried, with what it cost on tune: KL in nats, agreement in percent, drop in points."""

    ranges: str
    corrected: bool
    floats: int
    kl: float
    agreement: float
    drop: float
    chosen: bool


@dataclass(frozen=True)
class Variant:
    """What was decided for one variant. `rules` are the reasons for float, with how many nodes each left."""

    name: str
    ranges_by: str
    layers: int
    corrected: bool
    rules: tuple[Fact, ...]
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Histogram:
    """Values of one tensor (`edges` one longer than `counts`) and the range that was chosen for them."""

    name: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    low: float
    high: float
    clipped: float


@dataclass(frozen=True)
class Calibration:
    """The part of the page."""

    facts: tuple[Fact, ...]
    variants: tuple[Variant, ...]
    of: str
    histograms: tuple[Histogram, ...]
    plot: str


def calibration(bundle: Bundle) -> Calibration | None:
    """Return what `calibration.json` holds, None where there is none.

    Raises:
        BundleError: it is damaged, newer, or belongs to another network.
    """
    if not bundle.has(calibration_file.NAME):
        return None
    document = calibration_file.read(bundle)
    try:
        facts = (
            Fact("calibrated on", plural(len(document["images"]), "training image")),
            Fact("chosen on", plural(len(document["tune"]), "image") + " of tune"),
            Fact("tensors observed", str(len(document["tensors"]))),
        )
        variants = tuple(_variant(name, body) for name, body in document["variants"].items())
        of = next(iter(document["variants"]), "")
        shown = _most_clipped(document, of) if of else ()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(
            f"{calibration_file.NAME} of {bundle.path} is not readable: {error!r}",
            hint=f"Run `tledge calibrate {bundle.path}` again.",
            path=bundle.path / calibration_file.NAME,
        ) from error
    return Calibration(facts, variants, clean(of), shown, plots.histograms(shown) if shown else "")


def _variant(name: str, body: dict[str, Any]) -> Variant:
    rules: dict[str, int] = {}
    for decision in body["float"]:
        rules[clean(decision["rule"])] = rules.get(clean(decision["rule"]), 0) + 1
    trials = tuple(
        Trial(
            clean(one["ranges"]),
            one["corrected"] is True,
            len(one["float"]),
            float(one["kl"]),
            float(one["agreement"]),
            float(one["drop"]),
            one.get("chosen") is True,
        )
        for one in body["trials"]
    )
    return Variant(
        clean(name),
        clean(body["ranges_by"]),
        len(body["layers"]),
        body["corrected"] is True,
        tuple(Fact(rule, str(count)) for rule, count in sorted(rules.items())),
        trials,
    )


def _most_clipped(document: dict[str, Any], variant: str) -> tuple[Histogram, ...]:
    """Return the tensors of which most values lie outside of the variant's range."""
    ranges = document["variants"][variant]["ranges"]
    tensors = document["tensors"]
    found = [_histogram(name, tensors[name], *ranges[name]) for name in ranges if name in tensors]
    return tuple(sorted(found, key=lambda one: (-one.clipped, one.name))[:SHOWN])


def _histogram(name: str, tensor: dict[str, Any], low: float, high: float) -> Histogram:
    counts = np.array(tensor["counts"].split(), np.int64)
    step = 2.0 ** tensor["exponent"]
    edges = (tensor["first"] + np.arange(len(counts) + 1)) * step
    clipped = clipped_share(counts, edges, low, high)
    together = max(1, -(-len(counts) // BARS))
    starts = np.arange(0, len(counts), together)
    merged = np.add.reduceat(counts, starts) if len(counts) else counts
    cut = np.append(edges[starts], edges[-1])
    return Histogram(
        clean(name), tuple(cut.tolist()), tuple(merged.tolist()), float(low), float(high), 100 * clipped
    )
