"""`tledge finetune --qat`: training with the rounding of INT8, where calibration alone loses too much.

Calibration decides where and with which scales the network rounds; the weights then learn to answer like the
float network under it (Jacob et al., 2018, with distillation). Batch norms are folded, and so frozen, from
the start: the network is trained already, and the scales belong to the folded weights.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tledge.bundle import Bundle, Writer
from tledge.errors import BundleError, UsageError
from tledge.models import Network, load
from tledge.preprocess import preprocessor
from tledge.progress import Progress
from tledge.quantization import graph as graphs
from tledge.quantization import narrow, recipe
from tledge.quantization.build import Built, attempt
from tledge.quantization.build import Network as Floating
from tledge.quantization.calibrate import CalibrateSettings, observed, read_tune
from tledge.quantization.images import Images, choose
from tledge.quantization.keep import keep
from tledge.quantization.ladder import Repaired, find_state
from tledge.quantization.placement import place
from tledge.quantization.recipe import Recipe
from tledge.runtime.machine import physical_cores
from tledge.training import features
from tledge.training.augment import Augmentation
from tledge.training.loop import train
from tledge.training.material import Material
from tledge.training.quantised import GraphBody, student, teacher, write_back
from tledge.training.settings import MAGNITUDE, USUAL_BATCH, FinetuneSettings
from tledge.training.start import RATES
from tledge.training.state import Recipe as Training

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

EPOCHS = 4  # the network is trained: it only has to find weights near its own that bear rounding
SLOWER = 0.1  # than fine-tuning
MILD = 0.75  # smallest part of the image in a crop, where the source does not say what its data bear


@dataclass(frozen=True)
class Decided:
    """What calibration says of the source: its float graph, the `int8` state, and the images that it saw."""

    model: ModelProto
    built: Built
    images: Images
    recipe: Recipe


def opened(settings: FinetuneSettings, classes: tuple[str, ...]) -> Bundle:
    """Return the source bundle, which holds a network of exactly these classes, and its graph.

    Raises:
        BundleError: it lacks the trained network or the graph.
        UsageError: it was trained on other classes.
    """
    source = Bundle.open(str(settings.from_bundle))
    for name in ("model.safetensors", "fp32.onnx"):
        if not source.has(name):
            raise BundleError(
                f"{source.path} holds no {name} to train with --qat",
                hint="It was imported, or made small for a device: give the bundle that was fine-tuned.",
                path=source.path,
            )
    if source.labels != classes:
        raise UsageError(
            f"{source.path} knows other classes than the data: {len(source.labels)} against {len(classes)}",
            hint="--qat keeps the classes. Fine-tune it on these data first: tledge finetune DATA --from B.",
        )
    return source


def decide(source: Bundle, bundle: Bundle, progress: Progress) -> Decided:
    """Return where and with which scales the source's network rounds, from train images of `bundle`.

    Raises:
        InputError: the images or the network cannot be calibrated with.
    """
    threads = physical_cores()
    model = graphs.load(source.read("fp32.onnx"), str(source.path / "fp32.onnx"))
    followed, why = recipe.choose(source, None)
    progress.note(f"recipe {followed.name} ({followed.family}): {why}")
    images = choose(bundle, None, followed.images, CalibrateSettings().tune)
    floating = followed.floating(graphs.Graph(model))
    prepare = preprocessor(bundle.spec, using="host")
    placements = [place(graphs.Graph(model), "int8", floating)]
    observers = observed(model, placements, images, prepare, threads=threads, progress=progress)
    built = find_state(
        Floating(model, observers),
        "int8",
        read_tune(model, images, bundle, threads),
        methods=followed.ranges,
        floating=floating,
        threads=threads,
        progress=progress,
    )
    return Decided(model, built, images, followed)


def trained(
    source: Bundle, decided: Decided, material: Material, settings: FinetuneSettings, checkpoints: Path
) -> tuple[Network, dict[str, Any]]:
    """Return the source's network with weights that bear rounding, on the CPU, and what was chosen.

    Raises:
        InputError: the network has operators or layers that cannot be trained so.
        UsageError: the loss is not a number any more.
    """
    network = load(source.read("model.safetensors"), source.path / "model.safetensors")
    built = decided.built
    pupil = student(decided.model, built.placement, built.ranges, network.config)
    master = features.place(teacher(decided.model, network.config), material.device)
    how = _training(source, material, settings)
    best, history = train(features.place(pupil, material.device), material, how, checkpoints, teacher=master)
    pupil.cpu().load_state_dict(best)
    if not isinstance(pupil.body, GraphBody):
        raise TypeError(type(pupil.body))
    write_back(pupil.body, network, decided.model)
    chosen = {"recipe": dataclasses.asdict(how), "history": history, "ranges": built.chosen.ranges}
    return network.eval(), chosen


def _training(source: Bundle, material: Material, settings: FinetuneSettings) -> Training:
    recipe = source.settings.get("finetune", {}).get("chosen", {}).get("recipe", {})
    known = recipe.get("augmentation")
    usual = MAGNITUDE if settings.magnitude is None else settings.magnitude
    how = Augmentation(**known) if known else Augmentation(MILD, False, settings.operations, usual)
    return Training(
        epochs=settings.epochs or EPOCHS,
        batch_size=settings.batch_size or USUAL_BATCH,
        lr=settings.lr or SLOWER * RATES[settings.optimizer][2],
        lowest_rate=1.0,
        warmup=settings.warmup,
        weight_decay=0.0,
        label_smoothing=settings.label_smoothing,
        size=material.prepare.spec.size,
        augmentation=how,
        batch_norm="frozen",
        patience=settings.patience,
        seed=settings.seed,
        optimizer=settings.optimizer,
        logit_adjust=recipe.get("logit_adjust", 0.0),
    )


def put(writer: Writer, bundle: Bundle, decided: Decided, progress: Progress) -> None:
    """Commit the INT8 and FP16 variants of the trained network, `int8` with the scales that it learnt with.

    `bundle` holds the network's `fp32.onnx` and its row by now. Whoever deploys reads in the ledger what each
    variant loses; there is no gate, as the training is done.
    """
    started = time.monotonic()
    threads = physical_cores()
    model = graphs.load(bundle.read("fp32.onnx"), str(bundle.path / "fp32.onnx"))
    floating = decided.recipe.floating(graphs.Graph(model))
    bits = narrow.bits("auto")
    ours, cpu = (place(graphs.Graph(model), target, floating, bits) for target in ("int8", "int8-cpu"))
    prepare = preprocessor(bundle.spec, using="host")
    observers = observed(model, [ours, cpu], decided.images, prepare, threads=threads, progress=progress)
    tune = read_tune(model, decided.images, bundle, threads)
    learnt, floats = decided.built, Floating(model, observers)
    made = attempt(
        floats, ours, learnt.chosen.ranges, learnt.ranges, {}, step="ranges", tune=tune, threads=threads
    )
    other = find_state(
        floats,
        "int8-cpu",
        tune,
        methods=decided.recipe.ranges,
        floating=floating,
        threads=threads,
        progress=progress,
        bits=bits,
    )
    repaired = Repaired(floats, {}, {}, {"int8": made, "int8-cpu": other})
    keep(
        writer,
        bundle,
        model,
        repaired,
        images=decided.images,
        followed=decided.recipe,
        tune=tune,
        threads=threads,
        progress=progress,
    )
    writer.commit(
        "calibrate",
        made_from=["fp32.onnx"],
        settings={"qat": True, "weight_bits": bits},
        seconds=time.monotonic() - started,
    )
