"""The bench's JSON document of a run: the keys are a contract."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tledge.bench import cold, state
from tledge.bench.comparison import intervals
from tledge.bench.device import LAUNCH
from tledge.bench.histogram import histogram
from tledge.bench.percentiles import estimates, summary
from tledge.bench.queries import STAGES
from tledge.bench.sampling import described
from tledge.bench.scenarios import Settings
from tledge.bench.validity import Measured, reasons
from tledge.runtime import Model


def document(
    measured: Measured,
    settings: Settings,
    *,
    model: Model,
    data_sha256: str,
    cold_start: cold.ColdStart,
    sizes_mib: tuple[float, float | None],
) -> dict[str, Any]:
    """Return the document of a run; `sizes_mib` are those of the graph's file and of its engine's."""
    recording, watched = measured.recording, measured.watched
    why_not = reasons(measured)
    device = measured.device_stages
    times = device or dict(zip(measured.stages, recording.stages.T, strict=True))
    latencies = recording.latencies
    images_per_second = recording.images.size / recording.seconds
    budget = settings.budget
    return {
        "valid": not why_not,
        "reasons": why_not,
        "failure": None if recording.failure is None else str(recording.failure) or repr(recording.failure),
        "scenario": settings.scenario.name,
        "from": settings.source,
        "variant": model.variant,
        "backend": model.backend,
        "device": model.device,
        "threads": model.session.threads,
        "images_per_query": recording.images.shape[1],
        "queries": len(recording.issued),
        "seconds": recording.seconds,
        "latency_ms": summary(latencies),
        "latency_interval_ms": intervals(recording),
        "latency_histogram": histogram(latencies).as_dict(),
        "early_stopping_ms": estimates(latencies),
        "waiting_ms": summary(recording.waiting) if settings.rate is not None else None,
        "throughput": images_per_second,
        "headline": _headline(settings, latencies, images_per_second),
        "rate": settings.rate,
        "budget": None if budget is None else budget.judge(latencies),
        "accuracy": None if measured.accuracy is None else measured.accuracy.as_dict(),
        "data_sha256": data_sha256,
        "stages_ms": {name: summary(times[name]) if name in times else None for name in STAGES},
        "stages_clock": "host" if device is None else "device events",
        "launch_ms": None if device is None else summary(device[LAUNCH]),
        "cold_start_ms": cold_start.total_ms,
        "cold_start_parts_ms": cold_start.parts_ms,
        "peak_memory_mib": cold_start.peak_memory_mib,
        "graph_mib": sizes_mib[0],
        "engine_mib": sizes_mib[1],
        "joules_per_image": _joules_per_image(measured),
        "environment": state.environment(
            watched.before,
            watched.after,
            **described(watched, model.device),
            noise={"before": asdict(measured.noise_before), "after": asdict(measured.noise_after)},
        ),
    }


def _headline(settings: Settings, latencies: Any, images_per_second: float) -> dict[str, Any]:
    """Return the one figure by which the scenario is compared, as MLPerf does."""
    name = settings.scenario.headline
    if name == "throughput":
        return {"metric": name, "value": images_per_second, "unit": "images/s"}
    return {"metric": name, "value": estimates(latencies)[name], "unit": "ms"}


def _joules_per_image(measured: Measured) -> float | None:
    """Return the energy of an image; None where no power can be read, or others took turns in the run."""
    joules = measured.watched.joules
    if not joules or not measured.alone:
        return None
    return sum(joules.values()) / measured.recording.images.size


def stands(result: dict[str, Any], *, force: bool = False) -> bool:
    """Tell whether a result is a success: its runs are valid, and budgets held.

    With `force` runs need not be valid; a backend that failed and a budget that was missed still count.
    """
    runs = result.get("runs", [result])
    sound = all(run["failure"] is None and (force or run["valid"]) for run in runs)
    return sound and all(run["budget"] is None or run["budget"]["held"] for run in runs)
