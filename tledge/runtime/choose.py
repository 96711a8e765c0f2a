"""Which variant on which backend `auto` takes: a written order, from what the bundle's ledger says.

Nothing is timed, so that the same bundle on the same kind of machine always answers the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from tledge.bundle import Bundle
from tledge.errors import BundleError, MachineError, UsageError
from tledge.runtime import backends, machine
from tledge.runtime.engine_manifest import EngineManifest, engines
from tledge.runtime.place import this_machine
from tledge.runtime.tensorrt_library import load


@dataclass(frozen=True)
class Choice:
    """One line of the order: what is taken, on which machines, and why it stands where it does."""

    variant: str
    backend: str
    needs: str  # "any"; "x86"; "int8": x86 whose INT8 sums are exact; "engine": one that fits here
    because: str


ORDER = (
    Choice("int8", "tensorrt", "engine", "built for this GPU, and fastest as a rule; not measured"),
    Choice("fp16", "tensorrt", "engine", "where INT8 lost too much, or was slower when it was built"),
    Choice("fp32", "tensorrt", "engine", "asked for by who built it"),
    Choice("int8", "tensorrt-rtx", "engine", "as above, after what was built on this very machine"),
    Choice("fp16", "tensorrt-rtx", "engine", "as above"),
    Choice("fp32", "tensorrt-rtx", "engine", "as above"),
    Choice("int8-cpu", "openvino", "int8", "fastest: 2.0 ms an image (Lite0, one thread)"),
    Choice("int8-cpu", "onnxruntime", "int8", "2.5 ms, and the library that is always there"),
    Choice("fp32", "openvino", "x86", "4.7 ms: float32 where INT8 was not calibrated or lost too much"),
    Choice("fp32", "onnxruntime", "any", "4.9 ms: the reference that every other stage is compared with"),
)
REFERENCE = ORDER[-1]
ALLOWED_DROP = 0.5  # points of top-1, as `calibrate` by default


def choose(bundle: Bundle, backend: str = "auto", variant: str = "auto") -> tuple[str, str]:
    """Return (backend, variant): what was named, and for "auto" the first that fits of `ORDER`.

    Something fits if the machine can run it, the bundle holds it, and it was scored and passed its gate;
    `passed_over` says of each engine why it does not fit. The reference needs no gate. What is named is taken
    even if it failed its gate: that is a decision of the user's. Raises UsageError (unknown backend or
    variant), BundleError (the bundle has no such variant).
    """
    if backend != "auto":
        backends.find(backend)
    if variant != "auto" and variant not in bundle.variants:
        raise _no_variant(bundle, variant)
    if backend != "auto" and variant != "auto":
        return backend, variant
    for choice in ORDER:
        if (
            backend in ("auto", choice.backend)
            and variant in ("auto", choice.variant)
            and _fits(bundle, choice)
        ):
            return choice.backend, choice.variant
    if backend in backends.ENGINES:
        # Built, and not scored or not for this machine: it is opened, or says why it cannot be.
        built = [one.variant for one in engines(bundle) if one.backend == backend]
        return backend, next(iter(built), REFERENCE.variant)
    # Named, and on no line of the order that fits: the reference's half for the other.
    pair = (
        REFERENCE.backend if backend == "auto" else backend,
        REFERENCE.variant if variant == "auto" else variant,
    )
    if pair[1] not in bundle.variants:
        raise _no_variant(bundle, pair[1])
    return pair


def others(variant: str, weight_bits: int = 8) -> tuple[str, ...]:
    """Return the backends beside the reference's that "auto" may take for `variant` on this machine.

    A command that makes the variant scores it on them too, or "auto" would never take them. `weight_bits`
    are those of its weights.
    """
    return tuple(
        choice.backend
        for choice in ORDER
        if choice.variant == variant
        and choice.needs != "engine"
        and choice.backend != REFERENCE.backend
        and _runs_here(choice, weight_bits)
    )


def _runs_here(choice: Choice, weight_bits: int) -> bool:
    if choice.needs in ("x86", "int8") and not machine.is_x86():
        return False
    if choice.needs == "int8" and weight_bits > 7 and machine.saturates_int8():
        return False
    return backends.missing(choice.backend) is None


def _fits(bundle: Bundle, choice: Choice) -> bool:
    if choice.variant not in bundle.variants:
        return False
    if choice.needs == "engine":
        found = [
            one for one in engines(bundle) if (one.backend, one.variant) == (choice.backend, choice.variant)
        ]
        return any(not obstacle(bundle, one) for one in found)
    if not _runs_here(choice, weight_bits(bundle)):
        return False
    return choice == REFERENCE or passed(bundle, f"{choice.variant}@{choice.backend}")


def obstacle(bundle: Bundle, engine: EngineManifest) -> str:
    """Say why "auto" does not take this engine of the bundle on this machine, or return "" if it may."""
    reason = backends.missing(engine.backend)
    if reason:
        return reason
    try:
        library = load(engine.backend)
    except MachineError as error:
        return error.message
    found = engine.misfits(bundle, this_machine(), library.version)
    if found:
        return f"it does not fit this machine: {'; '.join(map(str, found))}"
    return "" if engine.gate else "it was not scored where it was built"


def passed_over(bundle: Bundle) -> tuple[str, ...]:
    """Return which engines "auto" takes not here, one line a reason, and why it takes no `int8-cpu`."""
    reasons: dict[str, list[str]] = {}
    for engine in engines(bundle):
        reasons.setdefault(obstacle(bundle, engine), []).append(engine.name)
    told = [
        f"the engine {names[0]} is not taken: {reason}"
        if len(names) == 1
        else f"the engines {', '.join(names)} are not taken: {reason}"
        for reason, names in reasons.items()
        if reason
    ]
    reason = saturating(bundle, "int8-cpu")
    return (*told, f"int8-cpu is not taken: {reason}") if reason else tuple(told)


def weight_bits(bundle: Bundle) -> int:
    """Return how many bits the weights of the bundle's `int8-cpu` have; 7 saturate on no processor."""
    bits: int = bundle.settings.get("calibrate", {}).get("weight_bits", 8)
    return bits


def saturating(bundle: Bundle, variant: str) -> str:
    """Say why a variant of the bundle does not answer here as it was calibrated, or return "" if it does."""
    if variant != "int8-cpu" or variant not in bundle.variants:
        return ""
    if weight_bits(bundle) <= 7 or not machine.saturates_int8():
        return ""
    return (
        "its weights have 8 bits, and this processor has no VNNI: sums of products saturate, and answers are "
        f"others than those it was made for; `tledge calibrate {bundle.path} --cpu-weights 7` mends that"
    )


def passed(bundle: Bundle, stage: str) -> bool:
    """Tell whether a stage was scored, with the graph that the bundle holds now, and passed its gate.

    `calibrate` keeps no graph that failed the gate on the reference's backend, so that a row there is a pass.
    On another backend nothing has judged the row yet: the drop itself, without an interval, must be within
    what `calibrate` was told to allow.
    """
    row = bundle.row(stage)
    if row is None or row.file_sha256 != bundle.sha256(f"{row.variant}.onnx"):
        return False
    reference = bundle.row(f"{REFERENCE.variant}@{REFERENCE.backend}")
    if row.backend == REFERENCE.backend or reference is None:
        return row.backend == REFERENCE.backend
    allowed: float = bundle.settings.get("calibrate", {}).get("max_drop", ALLOWED_DROP)
    return reference.top1 - row.top1 <= allowed


def _no_variant(bundle: Bundle, variant: str) -> UsageError | BundleError:
    known = ("fp32", "fp16", "int8", "int8-cpu")
    if variant not in known:
        return UsageError(f"there is no variant {variant!r}", hint=f"The variants are {', '.join(known)}.")
    there = ", ".join(bundle.variants) or "none"
    return BundleError(
        f"{bundle.path} has no variant {variant}; it has {there}",
        hint=f"`tledge calibrate {bundle.path}` makes the variants other than fp32.",
        path=bundle.path,
    )
