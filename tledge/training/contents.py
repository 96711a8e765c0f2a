"""What a run writes first: classes, spec, eval images, and which images it trains and chooses on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tledge.bundle import Bundle, EvalImage, TrainFile, Writer
from tledge.bundle.records import encode
from tledge.data import split
from tledge.data.audit import audit, gate, usable
from tledge.data.dataset import Dataset, Sample
from tledge.errors import InputError, UsageError
from tledge.preprocess import Spec
from tledge.progress import Progress
from tledge.training.settings import FinetuneSettings


@dataclass(frozen=True)
class Found:
    """The data set without what cannot be used, in parts.

    `sha256` gives each file's hash by sample name; a tenth of the images is `elongation` times as long as
    short, or more; `together` gives the group of each train image that tune kept whole groups of.
    """

    dataset: Dataset
    train: tuple[Sample, ...]
    tune: tuple[Sample, ...]
    scoring: tuple[Sample, ...]
    sha256: Mapping[str, str]
    elongation: float = 1.0
    together: Mapping[str, str] = field(default_factory=dict)

    def train_files(self) -> list[TrainFile]:
        """Return the images to train on, then those to choose on, as a bundle remembers them."""
        return [
            TrainFile(path=sample.name, label=sample.label, sha256=self.sha256[sample.name], part=part)
            for part, samples in (("train", self.train), ("tune", self.tune))
            for sample in samples
        ]


def in_the_way(out: Path, *, force: bool, resume: bool) -> Bundle | None:
    """Return the unfinished bundle to go on with, None to begin one.

    Raises:
        UsageError: a bundle is in the way, or there is nothing to go on with.
    """
    if resume:
        bundle = Bundle.create(out, resume=True)
        return bundle if bundle.settings.get("finetune") else None
    if out.exists() and not force:
        Bundle.create(out)  # raises, unless the bundle there holds nothing yet
    return None


def check_classes(bundle: Bundle, dataset: Dataset) -> None:
    """Refuse to go on with a bundle of other classes (UsageError)."""
    if missing := sorted(set(bundle.labels) - set(dataset.classes)):
        raise UsageError(
            f"{bundle.path} was begun with the class {missing[0]!r}, which {dataset.root} does not have",
            hint="Give the data that it was begun with, or start anew with --force.",
        )


def examine(dataset: Dataset, settings: FinetuneSettings, progress: Progress) -> Found:
    """Audit the data set, leave out what cannot be used, and split it.

    Raises:
        InputError: too much of it cannot be used.
    """
    whole = at_most(split.with_val(dataset, settings.seed), settings)
    report = audit(whole, near=False, workers=settings.threads, progress=progress)
    for line in gate(whole, report, skip_bad=settings.skip_bad):
        progress.note(line)
    kept = usable(whole, report)
    parts = split.parts(kept, settings.seed, together=report.together)
    if not parts.scoring:
        raise InputError(f"{dataset.root} has no images to score on", path=dataset.root)
    progress.note(
        f"{len(kept.classes)} classes, {len(parts.train)} to train on, {len(parts.tune)} to choose on, "
        f"{len(parts.scoring)} ({parts.scoring_name}) to score on"
    )
    if parts.together:
        progress.note(
            f"{len(parts.together)} of the images are frames of {len(set(parts.together.values()))} things: "
            "those of one are all trained on, or all chosen on"
        )
    return Found(
        kept, parts.train, parts.tune, parts.scoring, report.sha256, report.elongation, parts.together
    )


def at_most(dataset: Dataset, settings: FinetuneSettings) -> Dataset:
    """Return the data set with at most `settings.train_images` of its train images, by class in proportion.

    Raises:
        UsageError: that is less than one a class.
    """
    wanted = settings.train_images
    if wanted is None:
        return dataset
    if wanted < len(dataset.classes):
        raise UsageError(
            f"train_images is {wanted}, and there are {len(dataset.classes)} classes",
            hint="Each class needs one image or more.",
        )
    return dataset.replace(train=split.at_most(dataset.train, wanted, settings.seed))


def write(writer: Writer, found: Found, spec: Spec, settings: FinetuneSettings) -> Bundle:
    """Commit classes, spec, eval images, train files and settings."""
    root = found.dataset.root.resolve()
    writer.put("labels.txt", "".join(f"{name}\n" for name in found.dataset.classes).encode())
    writer.put("preprocess.json", spec.to_json().encode())
    together = dict(sorted(found.together.items()))
    writer.put("train.json", encode(found.train_files(), root=str(root), together=together))
    if settings.eval_images:
        entries = []
        for sample in split.at_most(found.scoring, settings.eval_images, settings.seed):
            data, digest = sample.read(), found.sha256[sample.name]
            name = f"eval/{digest[:16]}{_suffix(sample, data)}"
            writer.put(name, data)
            entries.append(EvalImage(file=name, label=sample.label, name=sample.name, sha256=digest))
        writer.put("eval/index.json", encode(entries))
    return writer.commit("finetune", settings=dataclasses.asdict(settings))


def _suffix(sample: Sample, data: bytes) -> str:
    if sample.index is not None:
        return ".pgm" if data.startswith(b"P5") else ".ppm"
    return PurePosixPath(sample.name).suffix.lower()
