"""The machine's state around a run: what else it did meanwhile, its clocks, temperature and load.

What cannot be read (a virtual machine has no clocks to show) is None, and its name is listed under `unknown`.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tledge.bundle import provenance
from tledge.runtime import machine

CPUS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Look:
    """One look at the machine: times in seconds, `busy` summed over all CPUs, `own` that of this process.

    `frequency_mhz` is the mean over the CPUs, `fastest_mhz` that of the fastest: the one that works.
    """

    at: float
    busy: float
    own: float
    load_average: float
    frequency_mhz: float | None
    temperature_c: float | None
    governor: str | None
    fastest_mhz: float | None = None


def look() -> Look:
    """Look at the machine now."""
    clocks = [f / 1e3 for f in _numbers("cpu[0-9]*/cpufreq/scaling_cur_freq", CPUS)]
    return Look(
        at=time.monotonic(),
        busy=busy_seconds(Path("/proc/stat").read_text()),
        own=time.process_time(),
        load_average=os.getloadavg()[0],
        frequency_mhz=_mean(clocks),
        temperature_c=max(
            [t / 1e3 for t in _numbers("thermal_zone*/temp", Path("/sys/class/thermal"))], default=None
        ),
        governor=_text(CPUS / "cpu0/cpufreq/scaling_governor"),
        fastest_mhz=max(clocks, default=None),
    )


def busy_seconds(stat: str) -> float:
    """Return the CPU time that the whole machine has spent working, from the text of /proc/stat.

    Idle time and waiting for the disk do not count; time stolen by other virtual machines does.
    """
    fields = [int(word) for word in stat.splitlines()[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = (fields + [0] * 8)[:8]
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def other_load(before: Look, after: Look) -> float:
    """Return how many CPUs other processes kept busy between two looks (1.0: one of them, all the time)."""
    other = (after.busy - before.busy) - (after.own - before.own)
    return max(0.0, other / max(after.at - before.at, 1e-9))


def environment(before: Look, after: Look, **found: Any) -> dict[str, Any]:
    """Return what the JSON says of the machine: what was read, `found` by the run, what is unknown."""
    described: dict[str, Any] = {
        "cpu": provenance.processor() or None,
        "cores": machine.physical_cores(),
        "cpus": len(machine.available_cpus()),
        "governor": before.governor,
        "frequency_mhz": _pair(before.frequency_mhz, after.frequency_mhz),
        "temperature_c": _pair(before.temperature_c, after.temperature_c),
        "load_average": _pair(before.load_average, after.load_average),
        "other_load_cpus": round(other_load(before, after), 3),
        **found,
        "versions": provenance.versions(),
    }
    return {**described, "unknown": [name for name, value in described.items() if value is None]}


def _pair(before: float | None, after: float | None) -> dict[str, float] | None:
    if before is None or after is None:
        return None
    return {"before": round(before, 2), "after": round(after, 2)}


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _numbers(pattern: str, folder: Path) -> list[float]:
    texts = [_text(path) for path in sorted(folder.glob(pattern))]
    return [float(text) for text in texts if text and text.lstrip("-").isdigit()]
