"""Which layer runs in which type, and what INT8 costs each: from the calibration and engines' reports."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tledge.bundle import Bundle
from tledge.errors import MachineError
from tledge.quantization.layers import LayerView, describe
from tledge.report import layer_plots
from tledge.report.tables import Fact
from tledge.report.text import clean
from tledge.runtime.engine_manifest import EngineManifest, engines
from tledge.runtime.tensorrt_library import title

SHOWN = 12  # rows: the layers whose noise is the strongest; the plot has all


@dataclass(frozen=True)
class Noisy:
    """One INT8 layer: its place in the graph from 1, what its input's scale covers, % clipped, SQNR in dB.

    `loss` is its share of the variant's loss, in %; None where that was not measured.
    """

    place: int
    name: str
    op: str
    covers: str
    clipped: float
    sqnr: float | None
    loss: float | None


@dataclass(frozen=True)
class VariantLayers:
    """The layers of one INT8 variant: how many of each operator and precision, and the noisiest."""

    name: str
    counts: tuple[Fact, ...]
    noisiest: tuple[Noisy, ...]


@dataclass(frozen=True)
class EngineLayers:
    """The layers of one engine, by kind and type, with how many there are of each."""

    name: str
    facts: tuple[Fact, ...]
    kinds: tuple[Fact, ...]
    not_int8: tuple[str, ...]


@dataclass(frozen=True)
class Layers:
    """The part of the page; `lacking` says why noise could not be computed here."""

    variants: tuple[VariantLayers, ...]
    engines: tuple[EngineLayers, ...]
    plot: str
    lacking: str | None


def layers(bundle: Bundle) -> Layers:
    """Return what the bundle knows of its layers.

    Raises:
        BundleError: the calibration or an engine's manifest is damaged, or belongs to another network.
        InputError: the network cannot be read.
    """
    lacking = None
    try:
        described = describe(bundle)
    except MachineError as error:
        described, lacking = {}, error.message
    series = {name: [layer.sqnr for layer in found] for name, found in described.items()}
    drawn = any(value is not None for values in series.values() for value in values)
    return Layers(
        tuple(_variant(name, found) for name, found in described.items()),
        tuple(_engine(engine) for engine in engines(bundle)),
        layer_plots.noise(series) if drawn else "",
        lacking,
    )


def _variant(name: str, found: tuple[LayerView, ...]) -> VariantLayers:
    counts = Counter(
        f"{layer.op}, {layer.precision}" + (f" ({layer.rule})" if layer.rule else "") for layer in found
    )
    noisy = [_noisy(place, layer) for place, layer in enumerate(found, 1) if layer.precision == "int8"]
    worst = sorted(noisy, key=lambda one: (one.sqnr is None, one.sqnr or 0.0, one.place))[:SHOWN]
    return VariantLayers(
        clean(name),
        tuple(Fact(clean(what), str(count)) for what, count in sorted(counts.items())),
        tuple(worst),
    )


def _noisy(place: int, layer: LayerView) -> Noisy:
    covers = (
        "–"
        if layer.low is None or layer.high is None
        else f"{layer.low:.3g} to {layer.high:.3g}".replace("-", "−")
    )
    name, op = clean(layer.node), clean(layer.op)
    return Noisy(place, name, op, covers, layer.clipped or 0.0, layer.sqnr, layer.loss)


def _engine(engine: EngineManifest) -> EngineLayers:
    found = engine.layers
    wanted, missed = int(found["int8_wanted"]), tuple(clean(name) for name in found["not_int8"])
    facts = [
        Fact("built by", f"{title(engine.backend)} {engine.library}"),
        Fact("plan", f"{engine.plan_bytes / 2**20:.1f} MiB, batch {':'.join(map(str, engine.batch))}"),
        Fact("layers", f"{found['layers']}, {found['reformats']} of them only copy (reformats)"),
    ]
    if wanted:
        facts.append(Fact("in INT8", f"{wanted - len(missed)} of the {wanted} nodes that should be"))
    facts = [Fact(fact.name, clean(fact.text, 200)) for fact in facts]
    kinds = tuple(Fact(clean(kind, 120), str(count)) for kind, count in found["kinds"].items())
    return EngineLayers(clean(engine.name), tuple(facts), kinds, missed)
