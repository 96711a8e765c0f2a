"""`calibration.json`: what was seen and decided, so that every placement can be written again from it.

calib/README.md specifies it field by field.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tledge.bundle import Bundle
from tledge.errors import BundleError
from tledge.quantization import equalise
from tledge.quantization.build import Built, Trial
from tledge.quantization.graph import Graph
from tledge.quantization.images import BATCH, Images
from tledge.quantization.ladder import Repaired
from tledge.quantization.observers import BINS, Observer
from tledge.quantization.qdq import Correction
from tledge.quantization.ranges import Range
from tledge.quantization.recipe import Recipe
from tledge.quantization.rules import Target

if TYPE_CHECKING:
    from onnx import ModelProto

NAME = "calibration.json"
SCHEMA = 1


def encode(
    bundle: Bundle,
    images: Images,
    repaired: Repaired,
    *,
    recipe: Recipe,
    harm: Mapping[Target, Mapping[str, float]],
) -> bytes:
    """Return the file's bytes. The same images and network give the same bytes on the same machine."""
    document = {
        "schema": SCHEMA,
        "graph_sha256": bundle.sha256("fp32.onnx"),
        "spec_sha256": bundle.spec.sha256,
        "recipe": {"name": recipe.name, "sha256": recipe.sha256},
        "batch": BATCH,
        "images": [image.sha256 for image in images.calibration],
        "tune": [image.sha256 for image in images.tune],
        "equalised": {name: _floats(by) for name, by in repaired.network.equalised.items()},
        "tensors": {name: _tensor(seen) for name, seen in sorted(repaired.network.observers.items())},
        **_mended(repaired.mended),
        "narrowed": _mended(repaired.narrowed),
        "variants": {name: _variant(one, harm[name]) for name, one in repaired.built.items()},
    }
    # One line a tensor and a layer: a file that can be read, and compared with diff.
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _tensor(seen: Observer) -> dict[str, Any]:
    used = np.flatnonzero(seen.counts)
    first, last = (int(used[0]), int(used[-1]) + 1) if used.size else (BINS, BINS)
    mean = seen.total / seen.count
    return {
        "minimum": seen.minimum,
        "maximum": seen.maximum,
        "mean": mean,
        "std": max(seen.squares / seen.count - mean**2, 0.0) ** 0.5,
        "count": seen.count,
        "exponent": seen.exponent,
        "first": first - BINS,
        "counts": " ".join(map(str, seen.counts[first:last].tolist())),
    }


def _variant(one: Built, harm: Mapping[str, float]) -> dict[str, Any]:
    decisions = [d for d in one.placement.decisions if not d.int8]
    return {
        "ranges_by": one.chosen.ranges,
        "weight_bits": one.placement.bits,
        "corrected": one.chosen.corrected,
        "rounded": one.chosen.rounded,
        "ranges": {name: [found.low, found.high] for name, found in one.ranges.items()},
        "harm": dict(harm),
        "groups": [list(group) for group in one.placement.groups],
        "centred": list(one.placement.centred),
        "layers": [layer.node for layer in one.placement.layers],
        "float": [{"node": d.node, "op": d.op, "rule": d.rule} for d in decisions],
        "trials": [
            _trial(trial) | {"pareto": on_front(trial, one.trials), "chosen": trial is one.chosen}
            for trial in one.trials
        ],
    }


def _trial(trial: Trial) -> dict[str, Any]:
    # Seconds are left out: two runs give the same file.
    state = ("step", "ranges", "equalised", "corrected", "rounded", "float_macs")
    keys = (*state, "kl", "agreement", "expected", "drop")
    return {key: getattr(trial, key) for key in keys} | {"float": list(trial.floating)}


def table(document: Mapping[str, Any]) -> str:
    """Return every state that was tried, for people: `>` is what was chosen, `*` the Pareto front."""
    head = f"{'tried on tune':<35}{'float % of MACs':>19}{'KL':>9}{'kept %':>9}{'expected %':>12}{'drop':>7}"
    lines = []
    for name, variant in document["variants"].items():
        lines += [name]
        for one in variant["trials"]:
            state = [one["ranges"], *(key for key in ("equalised", "corrected", "rounded") if one[key])]
            marks = (">" if one["chosen"] else " ") + ("*" if one["pareto"] else " ")
            lines.append(
                f"{marks} {one['step']:<12}{' + '.join(state):<34}{one['float_macs']:>6.1f}{one['kl']:>9.5f}"
                f"{one['agreement']:>9.2f}{one['expected']:>12.2f}{one['drop']:>+7.2f}"
            )
    return "\n".join([head, *lines])


def on_front(trial: Trial, trials: Sequence[Trial]) -> bool:
    """Tell whether no other trial is as near to the float network (KL) with as little of it in float."""
    return not any(
        other.kl <= trial.kl
        and other.float_macs <= trial.float_macs
        and (other.kl, other.float_macs) != (trial.kl, trial.float_macs)
        for other in trials
    )


def _mended(made: Mapping[str, Mapping[str, Correction]]) -> dict[str, Any]:
    keys = {"corrections": "correction", "rounding": "rounding"}
    return {
        key: {node: _correction(one) for node, one in made.get(step, {}).items()}
        for key, step in keys.items()
    }


def _correction(mended: Correction) -> dict[str, str]:
    document = {"gain": _floats(mended.gain), "bias": _floats(mended.bias)}
    if mended.offsets is None:
        return document
    packed = base64.b64encode(zlib.compress(mended.offsets.tobytes(), 9)).decode()
    return document | {"offsets": packed}


def _floats(values: Any) -> str:
    return " ".join(f"{value:.9g}" for value in np.atleast_1d(values).tolist())


def read(bundle: Bundle) -> dict[str, Any]:
    """Return the bundle's calibration, checked.

    Raises:
        BundleError: there is none, it is damaged or newer, or it belongs to another network.
    """
    data = bundle.read(NAME)
    again = f"Run `tledge calibrate {bundle.path}` again."
    try:
        document: dict[str, Any] = json.loads(data)
        schema, graph = document["schema"], document["graph_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{NAME} of {bundle.path} is not readable: {error}", hint=again) from error
    if schema != SCHEMA:
        message = f"{NAME} of {bundle.path} has schema {schema}, and this tledge reads {SCHEMA}"
        raise BundleError(message, hint="Use the tledge that wrote it. " + again, path=bundle.path)
    if graph != bundle.sha256("fp32.onnx"):
        raise BundleError(
            f"{NAME} of {bundle.path} belongs to another network: fp32.onnx has another hash",
            hint=again,
            path=bundle.path / NAME,
        )
    return document


def network(document: Mapping[str, Any], model: ModelProto) -> ModelProto:
    """Return the float network that the calibration is of: `model`, equalised if that was kept."""
    found = {name: np.array(by.split(), np.float32) for name, by in document.get("equalised", {}).items()}
    return equalise.apply(model, found) if found else model


def ranges(document: Mapping[str, Any], variant: str) -> dict[str, Range]:
    """Return the ranges that the calibration decided on for a variant."""
    return {name: Range(*pair) for name, pair in document["variants"][variant]["ranges"].items()}


def corrections(document: Mapping[str, Any], variant: str, model: ModelProto) -> dict[str, Correction]:
    """Return what is mended in the layers of a variant: all, or nothing; `model` is the float network."""
    decided = document["variants"][variant]
    if not decided["corrected"]:
        return {}
    graph = Graph(model)
    weights = {node.name: node.input[1] for node in graph.nodes if len(node.input) > 1}
    found = {}
    made = document["narrowed"] if decided.get("weight_bits", 8) == 7 else document
    for node, mended in made["rounding" if decided.get("rounded") else "corrections"].items():
        gain, bias = (np.array(mended[key].split(), np.float32) for key in ("gain", "bias"))
        offsets = None
        if "offsets" in mended:
            packed = zlib.decompress(base64.b64decode(mended["offsets"]))
            offsets = np.frombuffer(packed, np.int8).reshape(graph.constants[weights[node]].shape)
        found[node] = Correction(gain, bias, offsets)
    return found
