"""What the page says in tables: the model, the ledger, the files, how each part came to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tledge.bundle import Bundle, Row
from tledge.evaluation.paired import Comparison, compare
from tledge.preprocess import Spec
from tledge.preprocess.words import in_words
from tledge.report.evidence import Evidence
from tledge.report.text import clean, plural, value


@dataclass(frozen=True)
class Fact:
    """One line about the model."""

    name: str
    text: str


@dataclass(frozen=True)
class Line:
    """One stage of the ledger; `paired` against its parent, where both keep their answers."""

    row: Row
    stage: str
    parent: str
    where: str
    paired: Comparison | None


@dataclass(frozen=True)
class Part:
    """One file of the bundle."""

    name: str
    size: str
    sha256: str


@dataclass(frozen=True)
class Step:
    """One entry of the lineage."""

    stage: str
    finished: str
    seconds: str
    made_from: tuple[Part, ...]
    made: tuple[Part, ...]
    more: int
    settings: tuple[Fact, ...]
    versions: str
    machine: str


def facts(evidence: Evidence) -> tuple[Fact, ...]:
    """Return what the model is: network, classes, input, variants, data."""
    bundle = evidence.bundle
    settings = bundle.settings.get("finetune", {})
    trained = bundle.train_files()
    found = [Fact("state", clean(bundle.state))]
    if settings.get("backbone"):
        found.append(Fact("network", clean(settings["backbone"])))
    elif "import" in bundle.settings:
        found.append(Fact("network", "trained elsewhere, imported as ONNX"))
    if settings.get("method"):
        found.append(Fact("trained by", clean(settings["method"])))
    if evidence.labels:
        shown = ", ".join(clean(label, 40) for label in evidence.labels[:12])
        rest = len(evidence.labels) - 12
        found.append(
            Fact(f"{len(evidence.labels)} classes", shown + (f" and {rest} more" if rest > 0 else ""))
        )
    if bundle.has("preprocess.json"):
        found += [Fact("input", _tensor(bundle.spec)), Fact("preprocessing", in_words(bundle.spec))]
    variants = [f"{name} ({size(bundle, f'{name}.onnx')})" for name in bundle.variants]
    found.append(Fact("variants", ", ".join(variants) or "none yet"))
    if trained:
        tune = sum(file.part == "tune" for file in trained)
        found.append(
            Fact("trained on", f"{plural(len(trained) - tune, 'image')}, choices made on {tune} others")
        )
    found.append(Fact("scored on", f"{plural(len(evidence.images), 'image')} kept in the bundle"))
    return tuple(found)


def _tensor(spec: Spec) -> str:
    shape = " × ".join(str(side) for side in spec.shape)
    numbers = f"mean {_triple(spec.mean)}, standard deviation {_triple(spec.std)}"
    return f"{spec.dtype} {spec.layout} {shape}; {numbers}"


def _triple(values: tuple[float, ...]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else ", ".join(f"{number:g}" for number in values)


def lines(evidence: Evidence) -> tuple[Line, ...]:
    """Return the ledger with each stage compared with its parent."""
    found = []
    for row in evidence.rows:
        own, parent = evidence.answers.get(row.stage), evidence.parent(row)
        paired = compare(parent.logits, own.logits, evidence.truth) if own and parent else None
        found.append(
            Line(row, clean(row.stage), clean(row.parent) if row.parent else "", clean(row.device), paired)
        )
    return tuple(found)


def parts(bundle: Bundle) -> tuple[Part, ...]:
    """Return the bundle's files but the images and what belongs to single stages."""
    names = [name for name in bundle.names if not name.startswith(("eval/", "logits/", "flips/"))]
    return tuple(Part(clean(name), size(bundle, name), bundle.sha256(name)) for name in names)


def steps(bundle: Bundle, most: int = 12) -> tuple[Step, ...]:
    """Return how each part came to be, oldest first, each with at most `most` of the files that it made."""
    return tuple(_step(entry, most) for entry in bundle.lineage if entry.get("made") or entry.get("settings"))


def _step(entry: dict[str, Any], most: int) -> Step:
    made, made_from = _hashes(entry.get("made")), _hashes(entry.get("made_from"))
    shown = [part for part in made if not part.name.startswith(("eval/", "flips/"))][:most]
    settings = entry.get("settings")
    versions = entry.get("versions")
    machine = entry.get("machine")
    seconds = entry.get("seconds")
    return Step(
        stage=clean(entry.get("stage")),
        finished=clean(entry.get("finished")),
        seconds=f"{seconds:.1f} s" if isinstance(seconds, (int, float)) else clean(seconds),
        made_from=tuple(made_from[:most]),
        made=tuple(shown),
        more=len(made) - len(shown),
        settings=tuple(Fact(clean(name), value(item)) for name, item in flat_settings(settings)),
        versions=clean(", ".join(f"{name} {text}" for name, text in _table(versions)), 400),
        machine=clean(", ".join(value(item) + _unit(name) for name, item in _table(machine)), 200),
    )


def _table(item: Any) -> list[tuple[str, Any]]:
    return [(str(name), inner) for name, inner in item.items()] if isinstance(item, dict) else []


def flat_settings(settings: Any) -> list[tuple[str, Any]]:
    """Return settings with dotted names, without the history of epochs, which is drawn."""
    found = []
    for name, item in _table(settings):
        if isinstance(item, dict):
            found += [(f"{name}.{inner}", value) for inner, value in flat_settings(item)]
        elif name != "history":
            found.append((name, item))
    return found


def _unit(name: str) -> str:
    return " cores" if name == "cores" else ""


def _hashes(item: Any) -> list[Part]:
    return [Part(clean(name), "", clean(digest)) for name, digest in _table(item)]


def size(bundle: Bundle, name: str) -> str:
    """Return the size of the bundle's file in words."""
    count = bundle.manifest.files[name].bytes
    if count < 1024:
        return f"{count} B"
    return f"{count / 1024:.0f} KiB" if count < 2**20 else f"{count / 2**20:.1f} MiB"
