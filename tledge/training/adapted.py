"""A new bundle of a network whose batch norms are adapted, scored beside the one that it was made from."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tledge.bundle import Bundle, Writer, probabilities
from tledge.bundle.files import sha256_bytes, sha256_file
from tledge.bundle.probabilities import Probabilities
from tledge.bundle.store import MANIFEST
from tledge.data import Sample, find, image_files, sample_at
from tledge.errors import BundleError, InputError, UsageError
from tledge.evaluation import card, stage
from tledge.evaluation.drift import LEAST, drawn
from tledge.evaluation.images import EvalSet, of_bundle, of_dataset
from tledge.evaluation.paired import compare
from tledge.evaluation.stage import Stage
from tledge.models import Network, load
from tledge.preprocess import preprocessor
from tledge.progress import Progress
from tledge.training import adapt, contents, features, scores
from tledge.training.device import Device, choose

STAGE = "adapt"
SOURCE = "source"  # the ledger's name of the network before
KEPT = ("labels.txt", "preprocess.json", "train.json")


@dataclass(frozen=True)
class BothScored:
    """The networks before and after on the same labelled images."""

    before: Stage
    after: Stage
    images: EvalSet

    def as_dict(self) -> dict[str, Any]:
        """Return percent of both, and the change in points with one-sided 95 % bounds, paired."""
        found = compare(self.before.logits, self.after.logits, self.images.expected)
        return {
            "n": found.n,
            "before": self.before.row.top1,
            "after": self.after.row.top1,
            "change": -found.drop,
            "change_low": -found.drop_high,
            "change_high": -found.drop_low,
            "lost": found.lost,
            "gained": found.gained,
        }


@dataclass(frozen=True)
class Adapted:
    """What was made, of how many images, and scores; `field` is None where its images have no labels."""

    bundle: Bundle
    images: int
    source_images: int
    eval: BothScored
    field: BothScored | None

    @property
    def advice(self) -> str:
        """Return in a sentence or two whether, and where, the new network is to be used."""
        if self.field is None:
            helps = "whether it helps is not known: give labelled images, in folders named after the classes"
        elif self.field.as_dict()["change_low"] <= 0:
            helps = "no clear gain on these images: keep the network before"
        else:
            helps = "a clear gain on these images"
        if self.eval.as_dict()["change_high"] >= 0:
            return helps
        return f"{helps}; it is clearly worse on images like the old ones: use it for this camera alone"

    def as_dict(self) -> dict[str, Any]:
        """Return the object `adapted` of `tledge drift --adapt --json`."""
        return {
            "bundle": str(self.bundle.path),
            "images": self.images,
            "source_images": self.source_images,
            "prior": adapt.PRIOR,
            "eval": self.eval.as_dict(),
            "field": self.field.as_dict() if self.field else None,
            "advice": self.advice,
        }


def make(
    parent: Bundle,
    folder: Path,
    out: Path,
    *,
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> Adapted:
    """Adapt the network of `parent` to the images below `folder` and write it to `out` as a new bundle.

    Args:
        parent: a bundle with trained weights, whose train images are still where they were.
        folder: images of the shifted camera. Where they are in folders named after the bundle's classes both
            networks are scored on them; the labels are used for nothing else.
        out: where the new bundle goes.
        seed: of the images that are drawn where there are more than 500 on a side, and of their order.
        force: replace a bundle that is in the way.
        progress: where to report.

    Raises:
        BundleError: the parent holds no trained network, or is damaged.
        UsageError: the network has no batch norms with statistics, or a bundle is in the way.
        InputError: too few images on either side.
    """
    progress, started = progress or Progress.silent(), time.monotonic()
    network = opened(parent)
    contents.in_the_way(out, force=force, resume=False)
    device = choose("auto")
    rng = np.random.default_rng(seed)
    files = [Sample(str(path.relative_to(folder)), 0, path) for path in image_files(folder)]
    field = drawn(files, rng)
    source = train_images(parent, seed)
    if len(field) < LEAST:
        raise InputError(f"{len(field)} images in {folder} are too few to adapt to", path=folder)
    network = features.place(network, device).eval()
    before = scored_before(parent, network, device, progress)
    prepare = preprocessor(parent.spec, "host")
    read = adapt.match(
        network,
        adapt.Batches(source, prepare, device, progress, "looking at train images", seed),
        adapt.Batches(field, prepare, device, progress, "adapting to the field's images", seed),
    )
    bundle = Bundle.create(out, force=force)
    with bundle.writing() as writer:
        bundle = begin(writer, parent)
        images = of_bundle(bundle)
        made = scores.export_and_score(
            bundle, writer, network.cpu(), images, device=device, progress=progress, parent=before
        )
        for one in (before, *made):
            stage.put(writer, one)
        scores.put_errors(writer, bundle, network, made[0], probabilities.read(parent).temperature("fp32"))
        settings = {
            "parent": sha256_file(parent.path / MANIFEST),
            "parent_weights": parent.sha256("model.safetensors"),
            "images": read,
            "source_images": len(source),
            "prior": adapt.PRIOR,
            "seed": seed,
        }
        writer.commit(STAGE, settings=settings, seconds=time.monotonic() - started)
        card.refresh(writer)
        bundle = writer.finish()
    return Adapted(
        bundle,
        read,
        len(source),
        BothScored(before, made[0], images),
        on_field(parent, bundle, folder, progress),
    )


def opened(parent: Bundle) -> Network:
    """Return the trained network of a bundle, which has batch norms that can be adapted."""
    if not parent.has("model.safetensors"):
        raise BundleError(
            f"{parent.path} holds no trained network to adapt",
            hint="It was imported, or made small for a device: give the bundle that was fine-tuned.",
            path=parent.path,
        )
    if parent.settings.get("finetune", {}).get("qat"):
        raise UsageError(
            f"{parent.path} was trained with --qat, which folds batch norms into the weights",
            hint="Adapt the bundle that it was trained --from, and train that one with --qat.",
        )
    network = load(parent.read("model.safetensors"), parent.path / "model.safetensors")
    adapt.norms(network)
    return network


def begin(writer: Writer, parent: Bundle) -> Bundle:
    """Commit what the new bundle has in common with its parent: classes, spec, images, threshold."""
    own = {name for name in parent.names if name.startswith("eval/")} | {*KEPT}
    writer.adopt(parent, leaving_out=tuple(name for name in parent.names if name not in own))
    known = probabilities.read(parent)
    temperatures = {"fp32": known.temperature("fp32")}
    writer.put(probabilities.NAME, Probabilities(temperatures, known.reject_below).encode())
    return writer.commit(STAGE)


def scored_before(parent: Bundle, network: Network, device: Device, progress: Progress) -> Stage:
    """Return the stage of the parent's network on the eval images, which the adapted one is compared with."""
    images = of_bundle(parent)
    if stage.has_logits(parent, stage.TORCH, images):
        logits = stage.read_logits(parent, stage.TORCH)
    else:
        logits = scores.torch_logits(network, images, preprocessor(parent.spec, "host"), device, progress)
        features.place(network, device)
    return stage.score_stage(
        SOURCE,
        logits,
        images,
        variant=None,
        backend="torch",
        device=device.label,
        file_sha256=parent.sha256("model.safetensors"),
    )


def on_field(parent: Bundle, made: Bundle, folder: Path, progress: Progress) -> BothScored | None:
    """Return both networks' scores on the images that were adapted to; None where these have no labels."""
    try:
        images = of_dataset(find(folder, labels=parent.labels), parent.labels)
    except InputError:
        return None
    before, after = (
        stage.measure(bundle, *stage.REFERENCE, images=images, progress=progress) for bundle in (parent, made)
    )
    return BothScored(before, after, images)


def train_images(parent: Bundle, seed: int) -> list[Sample]:
    """Return train images that are still what they were, drawn where there are many.

    Raises:
        InputError: there are too few.
    """
    rng = np.random.default_rng(seed)
    root = parent.train_root if parent.has("train.json") else ""
    found = []
    for file in drawn([file for file in parent.train_files() if file.part == "train"], rng):
        sample = sample_at(root, file.path, file.label)
        try:
            same = sha256_bytes(sample.read()) == file.sha256
        except InputError:
            same = False
        if same:
            found.append(sample)
    if len(found) < LEAST:
        raise InputError(
            f"only {len(found)} train images of {parent.path} are still what they were (in {root})",
            hint="Adapting compares the field's images with them: put them back where they were.",
            path=parent.path,
        )
    return found
