"""A stage of the ledger: a graph run on the eval images, scored, and compared with what it was made from."""

from __future__ import annotations

import io
import json
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tledge.bundle import Bundle
from tledge.bundle.files import sha256_bytes, sha256_file
from tledge.bundle.records import Row
from tledge.data import Dataset
from tledge.errors import BundleError
from tledge.evaluation.answers import logits
from tledge.evaluation.classes import Balanced, balanced
from tledge.evaluation.images import EvalSet, data_sha256, of_bundle, of_dataset
from tledge.evaluation.paired import Comparison, compare
from tledge.evaluation.scores import score
from tledge.preprocess import preprocessor
from tledge.progress import Progress
from tledge.runtime import Session, open_session
from tledge.runtime.backends import ENGINES, check_available, open_variant
from tledge.runtime.engine_manifest import EngineManifest
from tledge.runtime.tensorrt import engine_here
from tledge.runtime.tensorrt_library import load

if TYPE_CHECKING:
    from tledge.bundle.writer import Writer

__all__ = ["Stage", "data_sha256", "evaluate", "logits", "measure", "measure_engine", "put", "score_stage"]

TORCH = "torch"
REFERENCE = ("fp32", "onnxruntime")  # what every other variant and backend is compared with


@dataclass(frozen=True)
class Stage:
    """A scored stage: its ledger row, its logits (float32, images x classes) and the answers that flipped.

    `comparison` is against the row's parent, None without one; `flips` is what `flips/<stage>.json` lists.
    """

    row: Row
    logits: NDArray[np.float32]
    comparison: Comparison | None
    flips: tuple[dict[str, str], ...]


def stage_name(variant: str, backend: str) -> str:
    """Return the ledger's name of a variant on a backend."""
    return f"{variant}@{backend}"


def score_stage(
    stage: str,
    found: NDArray[np.float32],
    images: EvalSet,
    *,
    variant: str | None,
    backend: str,
    device: str,
    file_sha256: str,
    parent: str | None = None,
    parent_logits: NDArray[np.float32] | None = None,
) -> Stage:
    """Return the stage of logits that were found for these images.

    Args:
        stage: its name in the ledger: "torch", or "<variant>@<backend>".
        found: logits, images x classes, in the order of `images`.
        images: what they are answers to.
        variant: of the bundle's graphs, None for torch.
        backend: what ran it.
        device: where, such as "cpu".
        file_sha256: of the weights or the graph.
        parent: the stage that it was made from; without its logits there is no comparison, and no parent.
        parent_logits: the parent's, for the same images.

    Raises:
        InputError: logits that are not finite, or do not fit the images.
    """
    result = score(found, images.expected)
    comparison = None if parent_logits is None else compare(parent_logits, found, images.expected)
    row = Row(
        stage=stage,
        parent=parent if comparison else None,
        variant=variant,
        backend=backend,
        device=device,
        n=result.n,
        top1=result.top1,
        top1_low=result.top1_low,
        top1_high=result.top1_high,
        top5=result.top5,
        agreement=comparison.agreement if comparison else None,
        flips=len(comparison.flips) if comparison else None,
        kl=comparison.kl if comparison else None,
        data_sha256=images.data_sha256,
        file_sha256=file_sha256,
    )
    flips: tuple[dict[str, str], ...] = ()
    if comparison is not None and parent_logits is not None:
        before, after = parent_logits.argmax(axis=1), found.argmax(axis=1)
        flips = tuple(
            {
                "name": images.images[index].name,
                "sha256": images.sha256[index],
                "label": images.classes[images.labels[index]],
                "parent": images.classes[before[index]],
                "stage": images.classes[after[index]],
            }
            for index in comparison.flips
        )
    return Stage(row, np.asarray(found, np.float32), comparison, flips)


def put(writer: Writer, scored: Stage) -> None:
    """Stage everything of a scored stage in a bundle's writer: row, logits and flips."""
    name = scored.row.stage
    file = io.BytesIO()
    np.save(file, scored.logits, allow_pickle=False)
    writer.put(f"logits/{name}.npy", file.getvalue())
    document = {"stage": name, "parent": scored.row.parent, "flips": list(scored.flips)}
    writer.put(f"flips/{name}.json", (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
    writer.row(scored.row)


def read_logits(bundle: Bundle, stage: str) -> NDArray[np.float32]:
    """Return the logits of a stage of the bundle's ledger; BundleError where they do not fit its row."""
    name = f"logits/{stage}.npy"
    row = bundle.row(stage)
    try:
        found = np.load(io.BytesIO(bundle.read(name)), allow_pickle=False)
    except ValueError as error:
        raise BundleError(f"{name} of {bundle.path} is not readable: {error}", path=bundle.path) from error
    if row is None or found.dtype != np.float32 or found.shape != (row.n, len(bundle.labels)):
        raise BundleError(f"{name} of {bundle.path} does not fit the ledger", path=bundle.path)
    return np.asarray(found, np.float32)


def by_class(bundle: Bundle, stage: str) -> Balanced | None:
    """Return a stage's scores by class, of its kept logits; None where the bundle keeps no eval images."""
    images = bundle.eval_images()
    return balanced(read_logits(bundle, stage), [image.label for image in images]) if images else None


def measure(
    bundle: Bundle,
    variant: str,
    backend: str,
    *,
    images: EvalSet | None = None,
    graph: bytes | Path | None = None,
    parent_logits: NDArray[np.float32] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Stage:
    """Return a variant on a backend, scored; nothing is written.

    Args:
        bundle: for the spec, the labels, the eval images and the parent's logits.
        variant: which of its graphs, or what `graph` is to become.
        backend: what runs it.
        images: what to score on (default: the bundle's eval images).
        graph: an ONNX graph that is not in the bundle yet.
        parent_logits: those of the parent for `images`, where the caller has them. Else they are taken from
            the bundle if it has them for the same images, and made by running the parent if not.
        threads: how many threads one inference uses.
        progress: where to show how far it is.

    Raises:
        BundleError: the bundle has no such variant, or is damaged.
        InputError: there are no images, or one cannot be read.
        MachineError: the backend cannot run here.
    """
    images = of_bundle(bundle) if images is None else images
    if backend in ENGINES:
        check_available(backend)
        engine = engine_here(bundle, load(backend), variant)
        with closing(open_variant(bundle, backend, variant, threads=threads)) as session:
            return measure_engine(bundle, session, engine, images=images, progress=progress)
    source = graph if graph is not None else _graph(bundle, variant)
    session = open_session(source, backend, variant=variant, threads=threads, shape=bundle.spec.shape)
    found = logits(session, preprocessor(bundle.spec, using="host"), images, progress)
    parent = TORCH if (variant, backend) == REFERENCE else stage_name(*REFERENCE)
    if parent_logits is None:
        parent_logits = _parent_logits(bundle, parent, images, threads, progress)
    return score_stage(
        stage_name(variant, backend),
        found,
        images,
        variant=variant,
        backend=backend,
        device=session.device,
        file_sha256=sha256_bytes(source) if isinstance(source, bytes) else sha256_file(source),
        parent=parent,
        parent_logits=parent_logits,
    )


def measure_engine(
    bundle: Bundle,
    session: Session,
    engine: EngineManifest,
    *,
    images: EvalSet,
    progress: Progress | None = None,
) -> Stage:
    """Return an engine that `session` runs, scored against the graph that it was built of; see `measure`.

    Its stage is called after the engine: one variant may have engines for several machines.
    """
    parent = stage_name(engine.variant, REFERENCE[1])
    return score_stage(
        engine.name,
        logits(session, preprocessor(bundle.spec, using="host"), images, progress),
        images,
        variant=engine.variant,
        backend=engine.backend,
        device=session.device,
        file_sha256=engine.plan_sha256,
        parent=parent,
        parent_logits=_parent_logits(bundle, parent, images, None, progress),
    )


def evaluate(
    bundle: Bundle,
    variant: str,
    backend: str,
    *,
    data: Dataset | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    writer: Writer | None = None,
) -> tuple[Row, NDArray[np.float32]]:
    """Score a variant on a backend, write row, logits and flips into the bundle, and return row and logits.

    `data` takes the place of the bundle's eval images; what was found on it is written only into a bundle
    that has none of its own, since all rows of a ledger are of the same images. With `writer` (the caller
    holds the bundle's lock) everything is staged and left to be committed. Raises as `measure` does, and
    MachineError where the bundle may not be written or another process holds it.
    """
    from tledge.evaluation import card  # which reads stages itself

    started = time.monotonic()
    images = of_dataset(data, bundle.labels) if data is not None else None
    scored = measure(bundle, variant, backend, images=images, threads=threads, progress=progress)
    if writer is not None:
        put(writer, scored)
    elif images is None or not bundle.eval_images():
        with bundle.writing() as own:
            put(own, scored)
            own.commit("evaluate", made_from=[f"{variant}.onnx"], seconds=time.monotonic() - started)
            card.refresh(own)
    return scored.row, scored.logits


def _graph(bundle: Bundle, variant: str) -> Path:
    if variant not in bundle.variants:
        raise BundleError(
            f"{bundle.path} has no variant {variant}",
            hint=f"It has {', '.join(bundle.variants) or 'none'}; `tledge calibrate` makes the others.",
            path=bundle.path,
        )
    return bundle.file(f"{variant}.onnx")


def has_logits(bundle: Bundle, stage: str, images: EvalSet) -> bool:
    """Tell whether the bundle keeps a stage's logits for exactly these images, in their order."""
    row = bundle.row(stage)
    return (
        row is not None
        and row.data_sha256 == images.data_sha256
        and images.sha256 == tuple(entry.sha256 for entry in bundle.eval_images())
        and bundle.has(f"logits/{stage}.npy")
    )


def _parent_logits(
    bundle: Bundle, parent: str, images: EvalSet, threads: int | None, progress: Progress | None
) -> NDArray[np.float32] | None:
    """Return the parent's logits for these images, kept or made anew; None where that is not possible."""
    if has_logits(bundle, parent, images):
        return read_logits(bundle, parent)
    variant, _, backend = parent.partition("@")
    if variant not in bundle.variants:
        return None
    return measure(bundle, variant, backend, images=images, threads=threads, progress=progress).logits
