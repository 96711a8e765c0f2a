"""Small bundles for the tests of the runtime and the bench: no training, no torch."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.runtime import graphs
from tledge.bundle import Bundle, Row
from tledge.bundle.files import sha256_bytes
from tledge.preprocess import Box, Spec

LABELS = ("ant", "bee", "cat", "dog", "eel")


def make(
    path: Path,
    variants: tuple[str, ...] = ("fp32",),
    stages: tuple[str, ...] = (),
    eval_images: int = 0,
    changes: dict[str, dict[str, Any]] | None = None,
) -> Bundle:
    """Write a finished bundle of `graphs.classifier` with a ledger row for each of `stages`.

    `changes` says, by stage, which fields of its row are other than usual.
    """
    bundle = Bundle.create(path)
    with bundle.writing() as writer:
        writer.put("labels.txt", "".join(f"{label}\n" for label in LABELS).encode())
        writer.put("preprocess.json", spec().to_json().encode())
        for variant in variants:
            writer.put(f"{variant}.onnx", graphs.classifier())
        for stage in stages:
            writer.row(row(stage, **(changes or {}).get(stage, {})))
        if eval_images:
            put_eval(writer, eval_images)
        writer.commit("import", settings={})
        return writer.finish()


def spec() -> Spec:
    """Return the specification of 16 x 16 pixels, squeezed."""
    return Spec(geometry=Box(size=(16, 16)), filter="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)


def row(stage: str, **changes: Any) -> Row:
    """Return a ledger row of a stage that changed nothing."""
    variant, backend = stage.split("@")
    parent = None if stage == "fp32@onnxruntime" else "fp32@onnxruntime"
    same = (None, None, None) if parent is None else (100.0, 0, 0.0)
    graph = sha256_bytes(graphs.classifier())
    usual = Row(stage, parent, variant, backend, "cpu", 20, 90.0, 70.0, 97.0, 100.0, *same, "d" * 64, graph)
    return dataclasses.replace(usual, **changes)


def pixels(seed: int, size: tuple[int, int] = (24, 20)) -> np.ndarray:
    """Return a uint8 image, H x W x 3."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def png(seed: int) -> bytes:
    """Return the same image as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels(seed)).save(buffer, "PNG")
    return buffer.getvalue()


def put_eval(writer, count: int) -> None:
    """Write `count` eval images and their index."""
    from tledge.bundle import EvalImage, records

    images = []
    for seed in range(count):
        data = png(seed)
        digest = sha256_bytes(data)
        images.append(EvalImage(f"eval/{digest[:16]}.png", seed % 5, f"val/{seed}.png", digest))
        writer.put(images[-1].file, data)
    writer.put("eval/index.json", records.encode(images))
