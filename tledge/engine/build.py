"""The whole of `tledge build-engine`: a variant of a bundle into an engine that is kept in it."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

from tledge.bundle import Bundle
from tledge.bundle.files import sha256_bytes
from tledge.engine.process import Outcome, build_apart
from tledge.engine.settings import BuildSettings, capped_workspace, free_memory_mib
from tledge.errors import BundleError, MachineError, UsageError, nearest
from tledge.progress import Progress
from tledge.runtime.engine_manifest import FOLDER, EngineManifest, read_manifest
from tledge.runtime.place import Place, this_machine
from tledge.runtime.tensorrt_library import Library, load

PRECISIONS = ("int8", "fp16", "fp32")
SHOWN = 8


@dataclass(frozen=True)
class Made:
    """What a command made: the bundle as it is now, the engine, and whether it was built or was there."""

    bundle: Bundle
    engine: EngineManifest
    built: bool


def build_engine(
    bundle: Bundle, variant: str, settings: BuildSettings, *, rebuild: bool, progress: Progress
) -> Made:
    """Build the engine of `variant` and keep it in the bundle; one that is there and fits is left as it is.

    Args:
        bundle: A bundle that holds the variant.
        variant: One of `PRECISIONS`.
        settings: What to build for; the image's shape is taken from the bundle.
        rebuild: Replace an engine of the same name, whatever it is.
        progress: Where steps and findings are told.

    Raises:
        UsageError: no such precision, or targets that the library does not build for.
        MachineError: no library, no GPU, no memory.
        InputError: TensorRT cannot build the graph.
        BundleError: the bundle lacks the variant, or holds another engine of that name (and no `rebuild`).
    """
    source = _source(bundle, variant)
    library = load(settings.backend)
    place = this_machine()
    settings = _resolved(bundle, settings, library, place)
    name = f"{variant}@{settings.backend}-{'-'.join(settings.targets or (place.architecture,))}"
    wanted = _manifest(name, variant, settings, library, place, source_sha256=bundle.sha256(source))
    if bundle.has(f"{FOLDER}/{name}.json") and not rebuild:
        return Made(bundle, _same(bundle, wanted), built=False)
    started = time.monotonic()
    outcome = build_apart(bundle.file(source), settings, progress=progress, title=f"building {name}")
    manifest = _completed(wanted, outcome)
    with bundle.writing() as writer:
        now = Bundle.open(bundle.path)
        if not now.has(source) or now.sha256(source) != wanted.source_sha256:
            raise BundleError(
                f"{source} was replaced while its engine was built; the engine is dropped",
                hint="Run the same command again.",
                path=bundle.path / source,
            )
        writer.put(manifest.plan_name, outcome.built.plan)
        writer.put(f"{FOLDER}/{name}.json", manifest.to_json().encode())
        made = writer.commit(
            "build-engine",
            made_from=[source],
            settings={"precision": variant, **dataclasses.asdict(settings)},
            seconds=time.monotonic() - started,
        )
    _tell(manifest, outcome, progress)
    return Made(made, manifest, built=True)


def _source(bundle: Bundle, variant: str) -> str:
    if variant not in PRECISIONS:
        raise UsageError(f"no precision is called {variant!r}", hint=nearest(variant, PRECISIONS))
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
    name: str, variant: str, settings: BuildSettings, library: Library, place: Place, *, source_sha256: str
) -> EngineManifest:
    """Return the manifest of the engine that would be built, without what only a build can tell."""
    # Engines of TensorRT for RTX fit every GPU of their architectures.
    local = settings.backend == "tensorrt"
    return EngineManifest(
        name=name,
        variant=variant,
        backend=settings.backend,
        library=library.version,
        targets=settings.targets or (place.architecture,),
        gpu=place.gpu if local else "",
        cuda=place.cuda if local else "",
        l4t=place.l4t if local else "",
        batch=settings.batch,
        inputs=(),
        outputs=(),
        workspace_mib=settings.workspace_mib,
        source_sha256=source_sha256,
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
