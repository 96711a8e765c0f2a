"""A bundle out of an ONNX classifier that was trained elsewhere. Needs onnx, not torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tledge.bundle.files import explained
from tledge.bundle.store import Bundle
from tledge.errors import InputError, MachineError

if TYPE_CHECKING:
    from tledge.preprocess import Spec
    from tledge.preprocess.spec import Jpeg, Order

# The keys under which tledge's own export keeps them in an ONNX file's metadata_props.
LABELS_KEY, SPEC_KEY = "tledge.labels", "tledge.preprocess"


class Ports(Protocol):
    """What is asked of an opened graph here: what it takes and how many logits it gives."""

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Return the input's dimensions, None where dynamic."""

    @property
    def input_dtype(self) -> str:
        """Return numpy's name of the input's type."""

    @property
    def classes(self) -> int:
        """Return the number of logits an image."""


def import_onnx(
    model: Path,
    out: Path,
    *,
    labels: Path | None,
    spec: Path | None,
    open_graph: Callable[[Path], Ports],
    decode: Jpeg | None = None,
    frames: Order | None = None,
    force: bool = False,
) -> Bundle:
    """Make the bundle `out` of the classifier `model` and return it. Nothing is at `out` if this fails.

    Args:
        model: The ONNX file.
        out: Where the bundle goes.
        labels: Class names, one a line; None: those in the file's own metadata.
        spec: A `preprocess.json`; None: the one in the file's own metadata.
        open_graph: Opens the graph with a backend, refusing what cannot run or is no image classifier.
        decode: How JPEGs are decoded; None: as the spec says.
        frames: Whether cameras' frames are converted first, or their planes resized; None: as the spec says.
        force: Replace a bundle that is in the way.

    Raises:
        InputError: the model, the labels or the spec is not what it should be.
        UsageError: `out` is in the way.
        MachineError: the package onnx is missing.
    """
    from tledge.preprocess import Spec

    with explained(model):
        data = model.read_bytes()
    metadata = read_metadata(data, model)
    names = _labels(labels, metadata, model)
    text = _text(spec) if spec else metadata.get(SPEC_KEY)
    if text is None:
        hint = "Give --spec FILE: docs/preprocessing.md tells how to write one for your training code."
        raise InputError(f"{model} does not say how its images are preprocessed", hint=hint, path=model)
    parsed = Spec.from_json(text, path=str(spec or model))
    if decode is not None:
        parsed = parsed.with_jpeg(decode)
    if frames is not None:
        parsed = parsed.with_frames(frames)
    ports = open_graph(model)
    _check_fit(ports, names, parsed, model)
    bundle = Bundle.create(out, force=force)
    with bundle.writing() as writer:
        writer.put("labels.txt", "".join(f"{name}\n" for name in names).encode())
        writer.put("preprocess.json", parsed.to_json().encode())
        writer.put("fp32.onnx", data)
        given = {"model": model, "labels": labels, "spec": spec, "decode": decode, "frames": frames}
        settings = {name: value and str(value) for name, value in given.items()}
        writer.commit("import", settings=settings)
        return writer.finish()


def read_metadata(data: bytes, path: Path) -> dict[str, str]:
    """Check that `data` is a sound ONNX file and return its metadata_props.

    Raises:
        InputError: it is cut off, empty, or no ONNX at all.
        MachineError: the package onnx is missing.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        hint = 'pip install "tledge[onnx]"'
        raise MachineError("reading ONNX files needs the package onnx", hint=hint) from error
    hint = "Is the file complete, and is it ONNX?"
    try:
        model = onnx.load_from_string(data)
        if not model.graph.node:
            raise InputError(f"{path} holds no ONNX graph", hint=hint, path=path)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, UnicodeDecodeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"{path} is not a sound ONNX file: {lines[0]}", hint=hint, path=path) from error
    return {entry.key: entry.value for entry in model.metadata_props}


def _labels(path: Path | None, metadata: dict[str, str], model: Path) -> list[str]:
    place = path or model
    if path is not None:
        names = _text(path).splitlines()
    elif LABELS_KEY in metadata:
        names = [str(name) for name in json.loads(metadata[LABELS_KEY])]
    else:
        hint = "Give --labels FILE, one name a line."
        raise InputError(f"{model} does not name its classes", hint=hint, path=model)
    if not names or len(set(names)) != len(names) or not all(name.strip() for name in names):
        raise InputError(f"{place}: the labels are not all different, or one is empty", path=place)
    return names


def _text(path: Path) -> str:
    with explained(path):
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not text", path=path) from error


def _check_fit(ports: Ports, labels: list[str], spec: Spec, path: Path) -> None:
    if ports.classes != len(labels):
        raise InputError(f"{path} has {ports.classes} classes, and there are {len(labels)} labels", path=path)
    fits = all(has in (None, makes) for has, makes in zip(ports.input_shape[1:], spec.shape, strict=True))
    if not fits or ports.input_dtype != spec.dtype:
        raise InputError(
            f"{path} takes {ports.input_dtype} {list(ports.input_shape[1:])}, "
            f"and the spec makes {spec.dtype} {list(spec.shape)}",
            hint="Correct the size, the layout or the output type in the spec.",
            path=path,
        )
