"""`calibration.json`: what was seen and decided, so that every placement can be written again from it.

calib/README.md specifies it field by field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from tledge.bundle import Bundle
from tledge.errors import BundleError
from tledge.quantization.build import Built, Trial
from tledge.quantization.images import BATCH, Images
from tledge.quantization.observers import BINS, Observer
from tledge.quantization.qdq import Correction
from tledge.quantization.ranges import Range
from tledge.quantization.recipe import Recipe

NAME = "calibration.json"
SCHEMA = 1


def encode(
    bundle: Bundle,
    images: Images,
    observers: Mapping[str, Observer],
    corrections: Mapping[str, Correction],
    built: Mapping[str, Built],
    *,
    recipe: Recipe,
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
        "tensors": {name: _tensor(seen) for name, seen in sorted(observers.items())},
        "corrections": {
            node: {"gain": _floats(mended.gain), "bias": _floats(mended.bias)}
            for node, mended in corrections.items()
        },
        "variants": {name: _variant(one) for name, one in built.items()},
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


def _variant(one: Built) -> dict[str, Any]:
    decisions = [d for d in one.placement.decisions if not d.int8]
    return {
        "ranges_by": one.chosen.ranges,
        "corrected": one.chosen.corrected,
        "ranges": {name: [found.low, found.high] for name, found in one.ranges.items()},
        "groups": [list(group) for group in one.placement.groups],
        "centred": list(one.placement.centred),
        "layers": [layer.node for layer in one.placement.layers],
        "float": [{"node": d.node, "op": d.op, "rule": d.rule} for d in decisions],
        "trials": [_trial(trial) for trial in one.trials],
    }


def _trial(trial: Trial) -> dict[str, Any]:
    # Seconds are left out: two runs give the same file.
    keys = ("ranges", "corrected", "kl", "agreement", "drop")
    return {key: getattr(trial, key) for key in keys} | {"float": list(trial.floating)}


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


def ranges(document: Mapping[str, Any], variant: str) -> dict[str, Range]:
    """Return the ranges that the calibration decided on for a variant."""
    return {name: Range(*pair) for name, pair in document["variants"][variant]["ranges"].items()}


def corrections(document: Mapping[str, Any], variant: str) -> dict[str, Correction]:
    """Return the corrections that a variant has: all, or none."""
    if not document["variants"][variant]["corrected"]:
        return {}
    return {
        node: Correction(*(np.array(mended[key].split(), np.float32) for key in ("gain", "bias")))
        for node, mended in document["corrections"].items()
    }
