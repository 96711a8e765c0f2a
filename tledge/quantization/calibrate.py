"""`tledge calibrate`: one pass over train images, two INT8 variants and a float16 one, scored, in one commit.

Every choice is made on tune; the eval images only score, and confirm the gate once. A process that dies
leaves the bundle as it was.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tledge.bundle import Bundle, Row
from tledge.errors import AccuracyError, BundleError, UsageError, nearest
from tledge.evaluation import card, stage
from tledge.preprocess import Preprocessor, preprocessor
from tledge.progress import Progress
from tledge.quantization import narrow, recipe
from tledge.quantization.build import METHODS, Built, Network, Trial, Tune, answers
from tledge.quantization.graph import Graph, load, session
from tledge.quantization.images import Images, choose, tensors
from tledge.quantization.keep import keep
from tledge.quantization.ladder import Job, climb
from tledge.quantization.observe import observe
from tledge.quantization.observers import Observer
from tledge.quantization.placement import Placement, place
from tledge.quantization.qdq import Bits
from tledge.quantization.rules import TARGETS, Target
from tledge.runtime.machine import physical_cores, saturates_int8

if TYPE_CHECKING:
    from onnx import ModelProto


# Images that corrections are fitted on: each has hundreds of positions, and their activations all wait in
# memory between two layers (150 MB for the widest of EfficientNet-Lite0).
FITTED = 32
# What repair works towards where nothing else was asked for, and no gate by itself.
AGREEMENT = 99.0
# Per cent of the multiplications that may be left in float for it: on MobileNetV2 the first depthwise
# convolution (1.2 %) does half of the harm, and 99 % on hard images would take two thirds of the network.
SPARE = 5.0
# What is said where the processor has no VNNI.
NARROW = "no VNNI here: int8-cpu gets weights in 7 bits, whose sums cannot saturate (--cpu-weights)"
SATURATING = (
    "no VNNI here: choices are made in exact arithmetic; the scores of int8-cpu are what this processor "
    "answers, whose sums saturate, and have no part in the gate"
)


@dataclass(frozen=True)
class CalibrateSettings:
    """What can be set; each line has the reason of its default."""

    recipe: str | None = None  # that of the backbone's family
    images: int | None = None  # the recipe's
    tune: int = 64  # a choice among a few states, by a mean KL that already settles with some tens of images
    ranges: str = "auto"  # what the recipe says is worth trying
    max_drop: float = 0.5  # points of top-1
    min_agreement: float | None = None  # per cent of answers kept; None: repair aims at AGREEMENT
    threads: int | None = None  # None: the physical cores
    cpu_weights: narrow.Asked = "auto"  # 7 bits where this processor's sums saturate


def calibrate(
    bundle: Bundle,
    data: str | Path | None = None,
    settings: CalibrateSettings | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Make `int8`, `int8-cpu` and `fp16` of the bundle's network, score them, and return their ledger rows.

    Args:
        bundle: A finished bundle with an `fp32` variant.
        data: A folder of labelled images, in place of the train images that the bundle remembers.
        settings: See `CalibrateSettings`.
        progress: Where to show how far it is.

    Raises:
        AccuracyError: more is lost than allowed; the bundle is as it was.
        InputError: the images or the network cannot be calibrated with.
        BundleError: the bundle is damaged, or has no `fp32` variant.
        MachineError: a package is missing, or the bundle may not be written.
        UsageError: a setting is none of those known.
    """
    settings, progress = settings or CalibrateSettings(), progress or Progress.silent()
    if settings.ranges not in METHODS:
        raise UsageError(f"no such ranges: {settings.ranges}", hint=nearest(settings.ranges, METHODS))
    if settings.cpu_weights not in narrow.ASKED:
        hint = nearest(settings.cpu_weights, narrow.ASKED)
        raise UsageError(f"no such weights: {settings.cpu_weights}", hint=hint)
    if (settings.images is not None and settings.images < 1) or settings.tune < 1:
        raise UsageError("calibrating needs at least one image")
    started = time.monotonic()
    with bundle.writing() as writer:
        bundle = Bundle.open(bundle.path)
        if not bundle.has("fp32.onnx"):
            raise BundleError(f"{bundle.path} has no fp32.onnx to calibrate", path=bundle.path)
        threads = settings.threads or physical_cores()
        followed, why = recipe.choose(bundle, settings.recipe)
        progress.note(f"recipe {followed.name} ({followed.family}): {why}")
        folder = Path(data) if data is not None else None
        images = choose(bundle, folder, settings.images or followed.images, settings.tune)
        model = load(bundle.read("fp32.onnx"), str(bundle.path / "fp32.onnx"))
        graph = Graph(model)
        floating = followed.floating(graph)
        bits = narrow.bits(settings.cpu_weights)
        placements = [place(graph, target, floating, bits) for target in TARGETS]
        tell_unknown(placements[0], progress)
        prepare = preprocessor(bundle.spec, using="host")

        def seen(network: ModelProto) -> dict[str, Observer]:
            return observed(network, placements, images, prepare, threads=threads, progress=progress)

        observers = seen(model)
        tell_constant(observers, progress)
        if saturates_int8():
            progress.note(NARROW if bits == 7 else SATURATING)
        tune = read_tune(model, images, bundle, threads)
        job = Job(
            tune=tune,
            fitting=np.concatenate(list(tensors(prepare, images.calibration[:FITTED]))),
            methods=followed.ranges if settings.ranges == "auto" else METHODS[settings.ranges],
            repair=followed.repair,
            floating=floating,
            within=lambda trial: within(trial, settings),
            most_float=lambda trial: most_float(trial, settings),
            threads=threads,
            progress=progress,
            bits=bits,
        )
        repaired = climb(Network(model, observers), TARGETS, job, lambda other: seen(other.model))
        scored = keep(
            writer,
            bundle,
            model,
            repaired,
            images=images,
            followed=followed,
            tune=tune,
            check=lambda found: check_gate(found, repaired.built, settings, bits),
            threads=threads,
            progress=progress,
        )
        writer.commit(
            "calibrate",
            made_from=["fp32.onnx"],
            settings=dataclasses.asdict(settings)
            | {"data": None if data is None else str(data), "weight_bits": bits},
            seconds=time.monotonic() - started,
        )
        card.refresh(writer)
    return [one.row for one in scored if one.row.variant != stage.REFERENCE[0]]


def observed(
    model: ModelProto,
    placements: Sequence[Placement],
    images: Images,
    prepare: Preprocessor,
    *,
    threads: int,
    progress: Progress,
) -> dict[str, Observer]:
    """Return what the calibration images show of each tensor that the placements quantise."""
    calibration = images.calibration
    return observe(
        model,
        placements,
        tensors(prepare, calibration),
        total=len(calibration),
        threads=threads,
        progress=progress,
    )


def within(trial: Trial, settings: CalibrateSettings) -> bool:
    """Tell whether a state is within the budget on tune.

    The drop is tested as on the eval images. Answers must be kept on images not seen, which the expected
    agreement tells better than a count; where a share of them was asked for, the count must hold too.
    """
    asked = settings.min_agreement
    enough = trial.expected >= (AGREEMENT if asked is None else asked)
    counted = asked is None or trial.agreement >= asked
    return enough and counted and trial.drop_low <= settings.max_drop


def most_float(trial: Trial, settings: CalibrateSettings) -> float:
    """Return the percentage of the multiplications that may be left in float where `trial` is not enough."""
    asked = settings.min_agreement is not None or trial.drop_low > settings.max_drop
    return 100.0 if asked else SPARE


def read_tune(model: ModelProto, images: Images, bundle: Bundle, threads: int) -> Tune:
    """Return the tune images as tensors with the float network's logits."""
    prepare = preprocessor(bundle.spec, using="host")
    values = np.concatenate(list(tensors(prepare, images.tune)))
    labels = np.array([image.label for image in images.tune], np.intp)
    return Tune(values, labels, answers(session(model, threads), values))


def check_gate(
    scored: list[stage.Stage], built: Mapping[Target, Built], settings: CalibrateSettings, bits: Bits = 8
) -> None:
    """Raise AccuracyError if a variant loses more than allowed on the eval images, by the paired test.

    ONNX Runtime's answers decide: they are the arithmetic that was calibrated. Another backend's row says
    what it loses there, and keeps `auto` from taking it where that is too much. Where sums of 8-bit weights
    saturate, what `int8-cpu` loses is this processor's: it is in the ledger, `auto` does not take it here,
    and it must not keep the other variants from being made.
    """
    for one in scored:
        found = one.comparison
        if found is None or one.row.variant == stage.REFERENCE[0] or one.row.backend != stage.REFERENCE[1]:
            continue
        if one.row.variant == "int8-cpu" and bits == 8 and saturates_int8():
            continue
        lost = found.drop_low > settings.max_drop
        few = settings.min_agreement is not None and found.agreement < settings.min_agreement
        if lost or few:
            tried = "".join(f"\n  {trial}" for part in built.values() for trial in part.trials)
            what = f"loses {found.drop:.2f} points of top-1 (95 %: at least {found.drop_low:.2f})"
            if few and not lost:
                what = f"keeps {found.agreement:.2f} % of the answers, not {settings.min_agreement} %"
            raise AccuracyError(
                f"{one.row.variant} {what}; {settings.max_drop} points may go. Tried, judged on tune:{tried}",
                hint="Nothing was changed. Give more images, fine-tune with more of them, or allow more with "
                "--max-drop.",
            )


def tell_unknown(placement: Placement, progress: Progress) -> None:
    """Say which operators no rule knows."""
    unknown = sorted({d.op for d in placement.decisions if d.rule == "unknown"})
    if unknown:
        progress.note(f"left in float, because no rule is known for them: {', '.join(unknown)}")


def tell_constant(observers: Mapping[str, Observer], progress: Progress) -> None:
    """Say which tensors have the same value everywhere: part of the network is dead."""
    constant = [name for name, seen in observers.items() if seen.minimum == seen.maximum]
    if constant:
        progress.note(f"constant on all images, so that their layers add nothing: {', '.join(constant)}")
