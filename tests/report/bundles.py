"""A small bundle with real digits and answers that are made up, so that every figure is known beforehand."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tledge.bundle import Bundle, EvalImage
from tledge.bundle.files import sha256_bytes
from tledge.bundle.records import encode
from tledge.evaluation import stage
from tledge.evaluation.images import of_bundle
from tledge.preprocess import Box, Spec

LABELS = ("zero", "one", "two")
EACH = 8


def make(
    path: Path,
    labels: Sequence[str] = LABELS,
    names: Sequence[str] | None = None,
    settings: dict[str, Any] | None = None,
    wrong: int = 5,
    flips: int = 3,
    first: int = 0,
    quantised: str = "int8-cpu@onnxruntime",
) -> Bundle:
    """Return a bundle of `EACH` digits a class, from the `first` on, scored in three stages.

    `torch` and `fp32@onnxruntime` answer `wrong` images wrongly, the quantised stage answers `flips` of the
    others otherwise.
    """
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    bundle = Bundle.create(path)
    rows = []
    with bundle.writing() as writer:
        for label in range(len(labels)):
            for number, index in enumerate(np.flatnonzero(digits.target == label)[first : first + EACH]):
                file = io.BytesIO()
                Image.fromarray((digits.images[index] * 15).astype(np.uint8)).save(file, format="PNG")
                data = file.getvalue()
                digest = sha256_bytes(data)
                place = f"eval/{digest[:16]}.png"
                writer.put(place, data)
                name = names[len(rows) % len(names)] if names else f"val/{label}/{number}.png"
                rows.append(EvalImage(place, label, name, digest))
        writer.put("eval/index.json", encode(rows))
        writer.put("labels.txt", "".join(f"{label}\n" for label in labels).encode())
        writer.put("preprocess.json", Spec(geometry=Box(size=(8, 8))).to_json().encode())
        writer.put("fp32.onnx", b"not a graph: the report never opens it")
        writer.commit("finetune", settings=settings or {"backbone": "tledge:cnn", "epochs": 3}, seconds=1.5)
        made = writer.finish()
    images = of_bundle(made)
    logits = answers(images.expected, len(labels), wrong)
    other = logits.copy()
    for index in range(wrong, wrong + flips):
        other[index] = np.roll(other[index], 1)
    scored = [
        score("torch", logits, images, parent=None),
        score("fp32@onnxruntime", logits, images, parent="torch", parent_logits=logits),
        score(quantised, other, images, parent="fp32@onnxruntime", parent_logits=logits),
    ]
    with made.writing() as writer:
        for one in scored:
            stage.put(writer, one)
        return writer.commit("calibrate", made_from=["fp32.onnx"], settings={"images": 24})


def answers(truth: Any, classes: int, wrong: int) -> Any:
    """Return logits that are right but for the first `wrong` images, each less sure than the last."""
    logits = np.zeros((len(truth), classes), np.float32)
    said = truth.copy()
    said[:wrong] = (said[:wrong] + 1) % classes
    logits[np.arange(len(truth)), said] = np.linspace(6, 1, len(truth))
    return logits


def score(name: str, logits: Any, images: Any, **parent: Any) -> Any:
    variant, _, backend = name.partition("@")
    return stage.score_stage(
        name,
        logits,
        images,
        variant=variant if backend else None,
        backend=backend or "torch",
        device="cpu",
        file_sha256="f" * 64,
        **parent,
    )
