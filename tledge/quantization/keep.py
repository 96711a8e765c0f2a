"""What becomes of the variants: written as files, scored, and staged for the bundle with their making."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tledge.bundle import Bundle, probabilities
from tledge.bundle.probabilities import Probabilities
from tledge.evaluation import stage
from tledge.evaluation.temperature import match
from tledge.progress import Progress
from tledge.quantization import calibration_file, fp16
from tledge.quantization.build import Built, Tune, judge
from tledge.quantization.harm import TOLD, harms
from tledge.quantization.images import Images
from tledge.quantization.ladder import Repaired
from tledge.quantization.qdq import Bits
from tledge.quantization.rules import Target
from tledge.runtime.choose import others

if TYPE_CHECKING:
    from onnx import ModelProto

    from tledge.bundle import Writer
    from tledge.quantization.recipe import Recipe


def keep(
    writer: Writer,
    bundle: Bundle,
    model: ModelProto,
    repaired: Repaired,
    *,
    images: Images,
    followed: Recipe,
    tune: Tune,
    check: Callable[[list[stage.Stage]], None] = lambda scored: None,
    threads: int,
    progress: Progress,
) -> list[stage.Stage]:
    """Score the variants, stage graphs, calibration, rows and temperatures, and return the scores.

    `model` is the float network, simplified; `check` may refuse the scores before anything is staged.
    """
    graphs = write_graphs(model, repaired)
    bits = repaired.built["int8-cpu"].placement.bits
    scored = score(bundle, graphs, images, bits=bits, threads=threads, progress=progress)
    check(scored)
    for variant, file in graphs.items():
        writer.put(f"{variant}.onnx", file)
    harm = {
        target: harms(
            repaired.network,
            one.placement,
            one.ranges,
            repaired.corrections(target),
            tune,
            count=TOLD,
            threads=threads,
            progress=progress,
        )
        for target, one in repaired.built.items()
    }
    document = calibration_file.encode(bundle, images, repaired, recipe=followed, harm=harm)
    writer.put(calibration_file.NAME, document)
    for one in scored:
        stage.put(writer, one)
    writer.put(probabilities.NAME, tempered(bundle, repaired.built, tune, threads).encode())
    return scored


def write_graphs(model: ModelProto, repaired: Repaired) -> dict[str, bytes]:
    """Return the files of the three variants, each checked by ONNX's own checker."""
    import onnx

    limit = fp16.LARGEST / fp16.SAFETY
    built, observers = repaired.built, repaired.network.observers
    large = [name for name, seen in observers.items() if max(-seen.minimum, seen.maximum) > limit]
    graphs = {
        "int8": fp16.convert(built["int8"].model, large),
        "int8-cpu": built["int8-cpu"].model,
        "fp16": fp16.convert(model, large),
    }
    for graph in graphs.values():
        onnx.checker.check_model(graph)
    return {name: graph.SerializeToString() for name, graph in graphs.items()}


def score(
    bundle: Bundle,
    graphs: Mapping[str, bytes],
    images: Images,
    *,
    bits: Bits,
    threads: int,
    progress: Progress,
) -> list[stage.Stage]:
    """Return each variant scored against `fp32`; that comes first where the bundle has no row of it yet.

    `int8-cpu`, whose weights have `bits`, is scored on every backend that a user may be answered by without
    asking for it.
    """
    scored = []
    logits = None
    if bundle.row("@".join(stage.REFERENCE)) is None:
        reference = stage.measure(
            bundle, *stage.REFERENCE, images=images.scoring, threads=threads, progress=progress
        )
        scored.append(reference)
        logits = reference.logits
    runs = [(variant, stage.REFERENCE[1]) for variant in graphs]
    for variant, backend in runs + [("int8-cpu", backend) for backend in others("int8-cpu", bits)]:
        scored.append(
            stage.measure(
                bundle,
                variant,
                backend,
                images=images.scoring,
                graph=graphs[variant],
                parent_logits=logits,
                threads=threads,
                progress=progress,
            )
        )
    return scored


def tempered(bundle: Bundle, built: Mapping[Target, Built], tune: Tune, threads: int) -> Probabilities:
    """Return the bundle's temperatures with those of the variants: each as sure as the float network."""
    known = probabilities.read(bundle)
    own = known.temperature("fp32")
    fitted: dict[str, float] = {
        variant: match(judge(one.model, one.placement.target, tune, threads), tune.logits, own)
        for variant, one in built.items()
    }
    return known.with_temperatures(fitted | {"fp16": own})
