"""A bundle of the small networks, as `tledge finetune` and `tledge calibrate` would leave it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.engine import networks
from tledge.bundle import Bundle
from tledge.preprocess import Box, Spec


def make_bundle(path: Path, variants: Sequence[str]) -> Bundle:
    """Return a finished bundle at `path` that holds `variants`."""
    with Bundle.create(path).writing() as writer:
        writer.put("labels.txt", "".join(f"class {i}\n" for i in range(networks.CLASSES)).encode())
        spec = Spec(geometry=Box(size=(networks.SIZE, networks.SIZE)))
        writer.put("preprocess.json", spec.to_json().encode())
        for variant in variants:
            writer.put(f"{variant}.onnx", networks.network(variant))
        writer.commit("finetune")
        return writer.finish()
