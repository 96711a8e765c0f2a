"""The whole of `tledge finetune`: data, probe, epochs, export, parity, scores, in one bundle."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import torch

from tledge.bundle import Bundle, Writer, probabilities
from tledge.bundle.probabilities import Probabilities
from tledge.data.dataset import Dataset
from tledge.errors import BundleError, UsageError
from tledge.evaluation import card, stage
from tledge.evaluation.images import EvalSet, of_bundle
from tledge.evaluation.temperature import fit
from tledge.models import Network, adapted, create, load, resized
from tledge.preprocess import Spec, preprocessor
from tledge.progress import Progress
from tledge.training import balance, budget, contents, features, geometry, qat, scores, shots, start, suspects
from tledge.training.average import best_mixture
from tledge.training.clock import Clock
from tledge.training.device import Device, choose, threads
from tledge.training.distributed import ALONE, Team
from tledge.training.events import Events
from tledge.training.follow import hand_out
from tledge.training.images import Images
from tledge.training.loop import train
from tledge.training.material import Material
from tledge.training.settings import USUAL_BATCH, FinetuneSettings, resumed

STAGE = "finetune"


def finetune(
    dataset: Dataset,
    out: Path,
    settings: FinetuneSettings | None = None,
    progress: Progress | None = None,
    *,
    force: bool = False,
    resume: bool = False,
    team: Team = ALONE,
) -> Bundle:
    """Fine-tune a network on a data set and return the finished bundle at `out`.

    Args:
        dataset: what `tledge.data.find` gave.
        out: where the bundle goes.
        settings: see `FinetuneSettings`.
        progress: where to report.
        force: replace a bundle that is in the way, once the new one is finished.
        resume: go on with the unfinished bundle at `out`.
        team: the processes that share the epochs; this is the first, and `follow` is what the others do.

    Raises:
        UsageError: a wrong setting, a bundle that is in the way, or a loss that is not a number.
        InputError: the data are not fit for training.
        MachineError: weights, packages, memory, permission or a GPU are missing.
        BundleError: the unfinished bundle, or the one to start from, is damaged.
    """
    settings, progress = settings or FinetuneSettings(), progress or Progress.silent()
    started = time.monotonic()
    if settings.shots is not None:
        settings = dataclasses.replace(settings, method="probe")
    if settings.method == "probe" and settings.head != "linear":
        raise UsageError("a probe is a linear head", hint="Use --method finetune with this --head.")
    if settings.tensorboard is not None and Path(settings.tensorboard).is_file():
        raise UsageError(
            f"{settings.tensorboard} is a file", hint="--tensorboard takes a folder for its event files."
        )
    bundle = contents.in_the_way(out, force=force, resume=resume)
    if bundle is not None:
        settings = resumed(bundle.settings[STAGE], settings)
        contents.check_classes(bundle, dataset)
    if team.size > 1:
        _check_shared(settings, team)
    device = choose(settings.device, team.local)
    begun: tuple[Network, Spec] | None = None
    found: contents.Found | None = None
    used: contents.Found | None = None  # what the bundle is made of; more may be drawn from
    if bundle is None:
        # Both can fail, and so come before anything is written.
        begun = network_of(settings, dataset.classes)
        found = contents.examine(dataset, settings, progress)
        if found.dataset.classes != dataset.classes:
            begun = network_of(settings, found.dataset.classes)
        used = shots.first(found, settings)
        begun = geometry.fitted(begun, used, settings, device, progress)
        bundle = Bundle.create(out, force=force)
    with bundle.writing() as writer:
        if used is not None and begun is not None:
            bundle = contents.write(writer, used, begun[1], settings)
        clock = Clock(limit=settings.time or math.inf, started=started)
        job = Job(bundle, writer, settings, device, progress, dataset, found, clock, team)
        with threads(settings.backbone):
            network, chosen = job.trained(begun)
            return job.finished(network, chosen, started)


def _check_shared(settings: FinetuneSettings, team: Team) -> None:
    """Refuse what several processes cannot share (UsageError)."""
    if settings.qat or settings.method == "probe" or settings.time is not None:
        what = "--qat" if settings.qat else "a probe" if settings.method == "probe" else "a run with --time"
        raise UsageError(f"{what} is made by one process", hint="Run it without torchrun.")
    batch = settings.batch_size or USUAL_BATCH
    if batch < team.size:
        raise UsageError(
            f"a batch of {batch} is too small for {team.size} processes",
            hint="--batch-size is that of all processes together.",
        )


def network_of(settings: FinetuneSettings, classes: tuple[str, ...]) -> tuple[Network, Spec]:
    """Return the network that training starts from, and its spec."""
    torch.manual_seed(settings.seed)
    network, spec = _begun(settings, classes)
    if settings.decode is not None:
        spec = spec.with_jpeg(settings.decode)
    return network, spec if settings.frames is None else spec.with_frames(settings.frames)


def _begun(settings: FinetuneSettings, classes: tuple[str, ...]) -> tuple[Network, Spec]:
    if settings.from_bundle is None:
        return create(
            settings.backbone,
            len(classes),
            weights=settings.weights,
            head=settings.head,
            pool=settings.pool,
            image_size=settings.image_size,
        )
    source = qat.opened(settings, classes) if settings.qat else Bundle.open(settings.from_bundle)
    if not source.has("model.safetensors"):
        raise BundleError(
            f"{source.path} holds no trained network to start from",
            hint="It was imported, or made small for a device: start from the bundle that was fine-tuned.",
            path=source.path,
        )
    known = load(source.read("model.safetensors"), source.path / "model.safetensors")
    default = next(f.default for f in dataclasses.fields(settings) if f.name == "backbone")
    if settings.backbone not in (default, known.config["backbone"]):
        raise UsageError(
            f"{source.path} holds {known.config['backbone']}, and {settings.backbone} was asked for",
            hint="Leave --backbone out with --from.",
        )
    spec = resized(source.spec, settings.image_size)
    return known if settings.qat else adapted(known, len(classes), settings.head, spec.size), spec


@dataclasses.dataclass
class Job:
    """One run of `finetune` on its bundle, under the bundle's lock."""

    bundle: Bundle
    writer: Writer
    settings: FinetuneSettings
    device: Device
    progress: Progress
    dataset: Dataset
    found: contents.Found | None
    clock: Clock
    team: Team = ALONE
    decided: qat.Decided | None = None  # where INT8 rounds, with --qat

    def trained(self, begun: tuple[Network, Spec] | None) -> tuple[Network, dict[str, Any]]:
        """Return the trained network, on the CPU, and what the rules chose."""
        settings = self.settings
        files = self.bundle.train_files()
        material = Material(
            images=Images(files, self.dataset.root, self.bundle.spec),
            train_on=tuple(index for index, file in enumerate(files) if file.part == "train"),
            tune_on=tuple(index for index, file in enumerate(files) if file.part == "tune"),
            prepare=preprocessor(self.bundle.spec, "host"),
            device=self.device,
            progress=self.progress,
            workers=settings.threads,
            team=self.team,
            watch=None if settings.tensorboard is None else Events(Path(settings.tensorboard)).scalars,
        )
        checkpoints = self.writer.checkpoints
        checkpoints.mkdir(parents=True, exist_ok=True)
        if settings.qat:
            source = qat.opened(settings, self.bundle.labels)
            self.decided = qat.decide(source, self.bundle, self.progress)
            network, chosen = qat.trained(source, self.decided, material, settings, checkpoints)
            return network, chosen | {"temperature": temperature_of(network, material)}
        if settings.shots is not None:
            network = (begun or network_of(settings, self.bundle.labels))[0]
            found = self.found or contents.examine(self.dataset, settings, self.progress)
            return shots.trained(network, found, material, self.scoring(), settings)
        stored = start.read(checkpoints)
        if stored is None:
            network = (begun or network_of(settings, self.bundle.labels))[0]
            network = features.place(network, self.device)
            stored = start.make(network, material, settings)
            if settings.time is not None:
                images = len(self.scoring())
                stored = budget.planned(stored, material, self.clock, images, settings)
            start.write(checkpoints, stored)
        network = features.place(stored.network, self.device)
        chosen = dict(stored.chosen)
        if settings.method == "finetune":
            if settings.freeze == "backbone":
                network.body.requires_grad_(False)
            before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
            hand_out(stored, material, settings, checkpoints)
            self.clock.recall(stored.chosen.get("time"))
            best, history = train(network, material, stored.recipe, checkpoints, clock=self.clock)
            network.load_state_dict(best)
            chosen["history"] = history
            if settings.time is not None:
                chosen["time"] = stored.chosen["time"] | {"cut": self.clock.cut}
            if history and stored.mixable and material.tune_on:
                chosen["mixture"] = best_mixture(
                    network,
                    before,
                    material,
                    balance.weights(material.tune_labels, stored.recipe.logit_adjust),
                    known=chosen.get("relatives") is not None,
                )
            chosen["temperature"] = temperature_of(network, material)
        return network.cpu().eval(), chosen

    def finished(self, network: Network, chosen: dict[str, Any], started: float) -> Bundle:
        """Export the network, compare and score both forms of it, and finish the bundle."""
        scored = scores.export_and_score(
            self.bundle, self.writer, network, self.scoring(), device=self.device, progress=self.progress
        )
        if chosen["temperature"] is not None:
            known = Probabilities({"fp32": chosen["temperature"]})
            self.writer.put(probabilities.NAME, known.encode())
        for one in scored:
            stage.put(self.writer, one)
        scores.put_errors(self.writer, self.bundle, network, scored[0], chosen["temperature"])
        if "suspects" in chosen:
            suspects.put(self.writer, self.bundle, chosen.pop("suspects"))
        resolved = dataclasses.asdict(self.settings) | {"chosen": chosen}
        made = self.writer.commit(
            STAGE,
            made_from=["train.json", "preprocess.json"],
            settings=resolved,
            seconds=time.monotonic() - started,
        )
        if self.decided is not None:
            qat.put(self.writer, made, self.decided, self.progress)
        card.refresh(self.writer)
        return self.writer.finish()

    def scoring(self) -> EvalSet:
        """Return the bundle's eval images; the data set's own where the bundle keeps none."""
        if self.bundle.eval_images():
            return of_bundle(self.bundle)
        found = self.found or contents.examine(self.dataset, self.settings, self.progress)
        return EvalSet(
            images=found.scoring,
            labels=tuple(sample.label for sample in found.scoring),
            sha256=tuple(found.sha256[sample.name] for sample in found.scoring),
            classes=self.bundle.labels,
        )


def temperature_of(network: Network, material: Material) -> float | None:
    """Return the temperature that suits the network's answers on tune; None without tune images."""
    if not material.tune_on:
        return None
    place = features.place(network, material.device).eval()
    (logits,) = features.over(place, material, material.tune_on, title="fitting the temperature")
    return round(fit(logits, material.tune_labels), 6)
