"""What an engine fits: compared field by field before anything is deserialised.

TensorRT runs a plan only with the release that built it, on the kind of GPU that it was built on; a plan
that does not fit may crash instead of saying so, and a plan from elsewhere is code. So a plan is opened only
if its manifest fits this machine and its hash is the manifest's. docs/engines.md lists the fields.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tledge.bundle import Bundle
from tledge.errors import BundleError
from tledge.runtime.place import Place

FORMAT = "tledge-engine"
SCHEMA = 1
FOLDER = "engines"

Batch = tuple[int, int, int]  # smallest, the one to be fastest at, largest


@dataclass(frozen=True)
class EnginePort:
    """One input or output of an engine: name, TensorRT's name of its type, dimensions (-1: the batch)."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Difference:
    """One field in which an engine and this machine differ."""

    field: str
    engine: str
    here: str

    def __str__(self) -> str:
        """Show it as messages do: `GPU Orin, here Thor`."""
        return f"{self.field} {self.engine or 'none'}, here {self.here or 'none'}"


@dataclass(frozen=True)
class EngineManifest:
    """One engine of a bundle: `engines/NAME.json` beside `engines/NAME.plan`.

    `library` is the version of TensorRT that built it; `targets` the GPU architectures; `gpu`, `cuda` and
    `l4t` the machine, "" where the engine fits any; `workspace_mib` None for TensorRT's own choice; `layers`
    the layer report; `seconds` the time that the build took; `gate` the accuracy gate that it passed on the
    device ("max_drop", "drop", "drop_low" in points, "n" images), empty where it was not scored.
    """

    name: str
    variant: str
    backend: str
    library: str
    targets: tuple[str, ...]
    gpu: str
    cuda: str
    l4t: str
    batch: Batch
    inputs: tuple[EnginePort, ...]
    outputs: tuple[EnginePort, ...]
    workspace_mib: int | None
    source_sha256: str
    plan_sha256: str
    plan_bytes: int
    layers: dict[str, Any]
    seconds: float
    gate: dict[str, Any] = field(default_factory=dict)

    @property
    def plan_name(self) -> str:
        """Return the plan's name in the bundle."""
        return f"{FOLDER}/{self.name}.plan"

    @property
    def manifest_name(self) -> str:
        """Return the manifest's own name in the bundle."""
        return f"{FOLDER}/{self.name}.json"

    def as_dict(self) -> dict[str, Any]:
        """Return the document's body, in the order of docs/engines.md."""
        return {"format": FORMAT, "schema": SCHEMA, **dataclasses.asdict(self)}

    def to_json(self) -> str:
        """Return the document."""
        return json.dumps(self.as_dict(), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, path: str) -> EngineManifest:
        """Read the document; `path` names it in messages.

        Raises:
            BundleError: it is damaged, of a newer schema, or no engine's manifest.
        """
        try:
            body = json.loads(text)
            if body.pop("format") != FORMAT:
                raise BundleError(f"{path} is not the manifest of an engine", path=path)
            schema = int(body.pop("schema"))
            if schema > SCHEMA:
                raise BundleError(
                    f"{path} has schema {schema}, and this tledge reads up to {SCHEMA}",
                    hint="The engine was built by a newer tledge: upgrade this one, or build it anew.",
                    path=path,
                )
            for key in ("inputs", "outputs"):
                body[key] = [EnginePort(**tupled(port)) for port in body[key]]
            return cls(**tupled(body))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BundleError(
                f"{path} is damaged: {error!r}", hint="Build the engine anew, with --rebuild.", path=path
            ) from error

    def differences(self, place: Place, library: str, source_sha256: str) -> tuple[Difference, ...]:
        """Return in what the engine does not fit.

        Args:
            place: The machine that is to run it.
            library: The version of TensorRT there.
            source_sha256: The hash of the variant that the bundle holds now.
        """
        found = []

        def compare(field: str, engine: str, here: str) -> None:
            if engine != here:
                found.append(Difference(field, engine, here))

        compare("TensorRT", self.library, library)
        if place.architecture not in self.targets:
            found.append(Difference("GPU architecture", "+".join(self.targets), place.architecture))
        if self.gpu:
            compare("GPU", self.gpu, place.gpu)
        if self.cuda:
            # A driver's minor releases run what earlier ones of the same major release ran.
            compare("CUDA", _part(self.cuda, 1), _part(place.cuda, 1))
        if self.l4t or self.backend == "tensorrt":
            compare("L4T", _part(self.l4t, 2), _part(place.l4t, 2))
        compare(f"{self.variant}.onnx", self.source_sha256[:12], source_sha256[:12])
        return tuple(found)

    def misfits(self, bundle: Bundle, place: Place, library: str) -> tuple[Difference, ...]:
        """Return `differences`, with the variant as `bundle` holds it now."""
        source = f"{self.variant}.onnx"
        return self.differences(place, library, bundle.sha256(source) if bundle.has(source) else "")

    def command(self, bundle: Path) -> str:
        """Return the command that builds the engine anew."""
        words = f"tledge build-engine {bundle} --backend {self.backend} --precision {self.variant}"
        words += f" --batch {':'.join(map(str, self.batch))}"
        if self.backend == "tensorrt-rtx":
            words += f" --target {','.join(self.targets)}"
        if self.workspace_mib is not None:
            words += f" --workspace {self.workspace_mib}"
        return f"{words} --rebuild"


def read_manifest(bundle: Bundle, name: str) -> EngineManifest:
    """Return the manifest of the bundle's engine `name`; BundleError if there is none or it is damaged."""
    file = f"{FOLDER}/{name}.json"
    return EngineManifest.from_json(bundle.read(file), str(bundle.path / file))


def engines(bundle: Bundle) -> tuple[EngineManifest, ...]:
    """Return the manifests of all engines in the bundle, by name."""
    names = [name for name in bundle.names if name.startswith(f"{FOLDER}/") and name.endswith(".json")]
    return tuple(read_manifest(bundle, Path(name).stem) for name in names)


def engine_for(bundle: Bundle, backend: str, variant: str, place: Place, library: str) -> EngineManifest:
    """Return the bundle's engine of `variant` for `backend` that fits; where none does, the first there is.

    Raises:
        BundleError: the bundle has no engine of that variant for that backend.
    """
    found = [one for one in engines(bundle) if (one.backend, one.variant) == (backend, variant)]
    if not found:
        raise BundleError(
            f"{bundle.path} has no engine of {variant} for {backend}",
            hint=f"Build it on this machine: tledge build-engine {bundle.path} --backend {backend} "
            f"--precision {variant}",
            path=bundle.path,
        )
    return next((one for one in found if not one.misfits(bundle, place, library)), found[0])


def read_plan(bundle: Bundle, name: str, place: Place, library: str) -> bytes:
    """Return the plan of the bundle's engine `name`, which fits `place` and the version `library`.

    Raises:
        BundleError: it does not fit, in what and how to build it anew; or the plan is not the manifest's.
    """
    manifest = read_manifest(bundle, name)
    path = bundle.path / manifest.plan_name
    found = manifest.misfits(bundle, place, library)
    if found:
        raise BundleError(
            f"the engine {name} does not fit this machine: {'; '.join(map(str, found))}",
            hint=f"Build it anew: {manifest.command(bundle.path)}",
            path=path,
        )
    if bundle.sha256(manifest.plan_name) != manifest.plan_sha256:
        raise BundleError(
            f"{path} is not the plan that its manifest describes",
            hint=f"Build it anew: {manifest.command(bundle.path)}",
            path=path,
        )
    return bundle.read(manifest.plan_name)


def tupled(document: dict[str, Any]) -> dict[str, Any]:
    """Return what JSON made of a dataclass's fields with tuples again where it has lists."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in document.items()}


def _part(version: str, count: int) -> str:
    return ".".join(version.split(".")[:count])
