"""The whole of `tledge build-engine`: a variant of a bundle into an engine that is kept in it."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tledge.bundle import Bundle, Row
from tledge.bundle.files import sha256_bytes
from tledge.engine.judge import Candidate, cannot_run, check_parents, fastest, judged
from tledge.engine.process import Outcome, build_apart
from tledge.engine.settings import BuildSettings, capped_workspace, free_memory_mib
from tledge.errors import BundleError, MachineError, UsageError, nearest
from tledge.evaluation import card, stage
from tledge.evaluation.images import EvalSet, of_bundle
from tledge.progress import Progress
from tledge.runtime.engine_manifest import EngineManifest, read_manifest
from tledge.runtime.place import Place, this_machine
from tledge.runtime.tensorrt_library import Library, load

if TYPE_CHECKING:
    from tledge.bundle.writer import Writer

PRECISIONS = ("int8", "fp16", "fp32")
AUTO = "auto"
CHOSEN_FROM = ("fp16", "int8")
SHOWN = 8


@dataclass(frozen=True)
class Made:
    """What a command made: the bundle as it is now, its engines, and whether they were built or were there.

    `rows` are those of the ledger that it scored; `tried` all that it built, for "auto" to choose among.
    """

    bundle: Bundle
    engines: tuple[EngineManifest, ...]
    built: bool
    rows: tuple[Row, ...] = ()
    tried: tuple[Candidate, ...] = ()


def build_engine(
    bundle: Bundle,
    precision: str,
    settings: BuildSettings,
    *,
    rebuild: bool,
    progress: Progress,
    data: EvalSet | None = None,
    max_drop: float = 0.5,
) -> Made:
    """Build an engine and keep it in the bundle; one that is there and fits is left as it is.

    Where the engine can run it is scored, and kept only if it passes the accuracy gate; where it cannot, that
    is said. "auto" builds FP16 and INT8 and keeps the faster of those that pass; where they cannot be timed
    it keeps both, and says so.

    Args:
        bundle: A bundle that holds the variant.
        precision: One of `PRECISIONS`, or "auto".
        settings: What to build for; the image's shape is taken from the bundle.
        rebuild: Replace an engine of the same name, whatever it is.
        progress: Where steps and findings are told.
        data: What to score on in place of the bundle's eval images.
        max_drop: Points of top-1 that an engine may lose against the graph that it is built of.

    Raises:
        UsageError: no such precision, or targets that the library does not build for.
        MachineError: no library, no GPU, no memory.
        InputError: TensorRT cannot build the graph; "auto", and there is nothing to score on.
        BundleError: the bundle lacks the variant, or holds another engine of that name (and no `rebuild`).
        AccuracyError: no engine passed the gate; the bundle is as it was.
    """
    images = data or (of_bundle(bundle) if precision == AUTO or bundle.eval_images() else None)
    sources = [_source(bundle, variant) for variant in (CHOSEN_FROM if precision == AUTO else (precision,))]
    library = load(settings.backend)
    place = this_machine()
    settings = _resolved(bundle, settings, library, place)
    wanted = [_manifest(bundle, source, settings, library, place) for source in sources]
    there = [] if rebuild else [one for one in wanted if bundle.has(one.manifest_name)]
    same = tuple(_same(bundle, one) for one in there)
    if same and (len(same) == len(wanted) or any(one.gate for one in same)):
        return Made(bundle, same, built=False)
    reason = cannot_run(wanted[0], place)
    if images is not None and not reason:
        check_parents(bundle, [one.variant for one in wanted], images)
    started = time.monotonic()
    tried = tuple(_built(bundle, one, settings, progress) for one in wanted)
    kept = tried
    if reason:
        timed = " nor timed" if precision == AUTO else ""
        progress.note(f"built, and not scored{timed} here: {reason}")
    else:
        kept = tried = judged(bundle, library, tried, images, max_drop=max_drop, progress=progress)
        if images is None:
            progress.note("built, and not scored: the bundle has no eval images; give some with --data")
        else:
            kept = (fastest(tried),)
    with bundle.writing() as writer:
        now = Bundle.open(bundle.path)
        for one in tried:
            if one in kept:
                _put(writer, now, one, into_ledger=data is None or not bundle.eval_images())
            elif now.has(one.manifest.plan_name):
                # Else "auto" at run time might take the one that lost.
                writer.remove(one.manifest.plan_name)
                writer.remove(one.manifest.manifest_name)
        made = writer.commit(
            "build-engine",
            made_from=sources,
            settings={"precision": precision, "max_drop": max_drop, **dataclasses.asdict(settings)},
            seconds=time.monotonic() - started,
        )
        made = card.refresh(writer)
    for one in kept:
        _tell(one.manifest, one.outcome, progress)
    rows = tuple(one.stage.row for one in kept if one.stage is not None)
    return Made(made, tuple(one.manifest for one in kept), built=True, rows=rows, tried=tried)


def _built(bundle: Bundle, wanted: EngineManifest, settings: BuildSettings, progress: Progress) -> Candidate:
    onnx = bundle.file(f"{wanted.variant}.onnx")
    outcome = build_apart(onnx, settings, progress=progress, title=f"building {wanted.name}")
    return Candidate(_completed(wanted, outcome), outcome)


def _put(writer: Writer, now: Bundle, made: Candidate, *, into_ledger: bool) -> None:
    """Stage an engine, unless the graph that it was built of is not in the bundle any more."""
    manifest, source = made.manifest, f"{made.manifest.variant}.onnx"
    if not now.has(source) or now.sha256(source) != manifest.source_sha256:
        raise BundleError(
            f"{source} was replaced while its engine was built; the engine is dropped",
            hint="Run the same command again.",
            path=now.path / source,
        )
    writer.put(manifest.plan_name, made.outcome.built.plan)
    writer.put(manifest.manifest_name, manifest.to_json().encode())
    if made.stage is not None and into_ledger:
        stage.put(writer, made.stage)


def _source(bundle: Bundle, variant: str) -> str:
    if variant not in PRECISIONS:
        raise UsageError(f"no precision is called {variant!r}", hint=nearest(variant, (*PRECISIONS, AUTO)))
    if variant not in bundle.variants:
        raise BundleError(
            f"{bundle.path} has no variant {variant}; it has {', '.join(bundle.variants) or 'none'}",
            hint=f"`tledge calibrate {bundle.path}` makes the variants other than fp32.",
            path=bundle.path,
        )
    return f"{variant}.onnx"


def _resolved(bundle: Bundle, settings: BuildSettings, library: Library, place: Place) -> BuildSettings:
    """Return the settings with everything decided that the machine decides."""
    if settings.backend == "tensorrt" and not place.architecture:
        raise MachineError(
            f"{library.title} builds for the GPU of the machine that it runs on, and finds none here",
            hint="Build on the Jetson itself. For RTX GPUs any PC builds: --backend tensorrt-rtx.",
        )
    if settings.backend == "tensorrt-rtx" and not (settings.targets or place.architecture):
        raise UsageError(
            "there is no GPU here to build for",
            hint="Name the GPUs with --target, such as sm86,sm89,sm120 (RTX 30, 40 and 50).",
        )
    targets = settings.targets
    if settings.backend == "tensorrt-rtx" and not targets:
        targets = (place.architecture,)
    workspace = capped_workspace(
        settings.workspace_mib, shared_memory=place.shares_memory, free_mib=free_memory_mib()
    )
    return dataclasses.replace(settings, image=bundle.spec.shape, targets=targets, workspace_mib=workspace)


def _manifest(
    bundle: Bundle, source: str, settings: BuildSettings, library: Library, place: Place
) -> EngineManifest:
    """Return the manifest of the engine that would be built, without what only a build can tell."""
    # Engines of TensorRT for RTX fit every GPU of their architectures.
    local = settings.backend == "tensorrt"
    variant = source.removesuffix(".onnx")
    targets = settings.targets or (place.architecture,)
    return EngineManifest(
        name=f"{variant}@{settings.backend}-{'-'.join(targets)}",
        variant=variant,
        backend=settings.backend,
        library=library.version,
        targets=targets,
        gpu=place.gpu if local else "",
        cuda=place.cuda if local else "",
        l4t=place.l4t if local else "",
        batch=settings.batch,
        inputs=(),
        outputs=(),
        workspace_mib=settings.workspace_mib,
        source_sha256=bundle.sha256(source),
        plan_sha256="",
        plan_bytes=0,
        layers={},
        seconds=0.0,
    )


def _same(bundle: Bundle, wanted: EngineManifest) -> EngineManifest:
    """Return the engine that is in the bundle if it is the wanted one; else say in what it is not."""
    there = read_manifest(bundle, wanted.name)
    fields = "library targets gpu cuda l4t batch source_sha256".split()
    if not wanted.l4t:
        fields.append("workspace_mib")  # on a Jetson it follows the memory that happens to be free
    differing = [
        f"{field} {_shown(getattr(there, field))}, wanted {_shown(getattr(wanted, field))}"
        for field in fields
        if getattr(there, field) != getattr(wanted, field)
    ]
    if differing:
        raise BundleError(
            f"{bundle.path} has another engine {wanted.name}: {'; '.join(differing)}",
            hint="--rebuild replaces it.",
            path=bundle.path / there.plan_name,
        )
    bundle.file(there.plan_name)  # hashed: what is damaged is not "there"
    return there


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ":".join(map(str, value))
    return str(value)[:12] if value not in ("", None) else "none"


def _completed(wanted: EngineManifest, outcome: Outcome) -> EngineManifest:
    built = outcome.built
    return dataclasses.replace(
        wanted,
        inputs=built.inputs,
        outputs=built.outputs,
        plan_sha256=sha256_bytes(built.plan),
        plan_bytes=len(built.plan),
        layers=built.report.as_dict() | {"build_peak_mib": outcome.peak_mib},
        seconds=round(built.seconds, 3),
    )


def _tell(manifest: EngineManifest, outcome: Outcome, progress: Progress) -> None:
    for warning in outcome.built.warnings:
        progress.note(f"TensorRT warns: {warning}")
    missing = outcome.built.report.not_int8
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        progress.note(
            f"{len(missing)} of the {len(outcome.built.report.wanted_int8)} nodes that should run in INT8 "
            f"do not: {', '.join(missing[:SHOWN])}{more}"
        )
