"""Where power, GPU clocks and temperatures can be read: a Jetson's rails, NVML, RAPL.

A source is opened if it can be read here, and is absent otherwise; one that fails later reads as nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tledge.bench.tegrastats import parse, total_watts
from tledge.runtime.jetson import this_jetson

POWERCAP = Path("/sys/class/powercap")
TEGRASTATS_MS = 500


@dataclass(frozen=True)
class Reading:
    """What a source says at a moment; None or empty for what it does not.

    `watts` are now, `joules` since the source was opened (a counter: exact over any time), `rails_w` a
    board's rails by name, `gpu_load` in percent, `gpu_memory_mib` what all processes hold on the GPU,
    `throttled` why its clock is held down.
    """

    watts: float | None = None
    joules: float | None = None
    rails_w: dict[str, float] = field(default_factory=dict)
    gpu_mhz: float | None = None
    gpu_c: float | None = None
    gpu_load: float | None = None
    gpu_memory_mib: float | None = None
    throttled: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """Something that can be read: its name, and what its power is of ("CPU packages", "GPU", "board")."""

    name: str
    scope: str
    read: Callable[[], Reading]
    close: Callable[[], None] = lambda: None


def sources(device: str) -> tuple[Source, ...]:
    """Return what can be read on this machine, for a network that runs on `device` ("cpu", "cuda:0").

    A Jetson's rails hold everything; elsewhere it is the CPU's packages, and the GPU where it is used.
    """
    if this_jetson() is not None:
        found = [jtop() or tegrastats()]
    else:
        found = [rapl(), nvml(device) if device.startswith("cuda") else None]
    return tuple(source for source in found if source is not None)


def rapl(root: Path = POWERCAP) -> Source | None:
    """Return the energy counters of the CPU's packages (Intel's RAPL, which AMD has too).

    Linux shows them to root alone unless it was told otherwise.
    """
    packages = [
        folder
        for folder in sorted(root.glob("intel-rapl:*"))
        if folder.name.count(":") == 1 and (_text(folder / "name") or "").startswith("package")
    ]
    counters = [_Counter(folder) for folder in packages if _text(folder / "energy_uj")]
    if not counters:
        return None
    return Source("rapl", "CPU packages", lambda: Reading(joules=sum(c.joules() for c in counters)))


class _Counter:
    """A counter of microjoules that starts again at zero after its largest value."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "energy_uj"
        self.range = int(_text(folder / "max_energy_range_uj") or 0) + 1
        self.last = int(_text(self.file) or 0)
        self.total = 0

    def joules(self) -> float:
        """Return the energy since the counter was opened."""
        now = int(_text(self.file) or self.last)
        self.total += now - self.last if now >= self.last else now - self.last + self.range
        self.last = now
        return self.total / 1e6


def nvml(device: str) -> Source | None:
    """Return what NVML says of a GPU; None without nvidia-ml-py or a driver."""
    try:
        import pynvml  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    index = _nvml_index(device)
    try:
        pynvml.nvmlInit()
        handle = None if index is None else pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError:
        return None
    if handle is None:
        return None

    def ask(function: str, *words: Any) -> Any:
        """Return the answer; None where this GPU or this driver does not know."""
        try:
            return getattr(pynvml, function)(handle, *words)
        except (pynvml.NVMLError, AttributeError):
            return None

    first = ask("nvmlDeviceGetTotalEnergyConsumption")
    reasons = {
        name.removeprefix("nvmlClocksThrottleReason"): getattr(pynvml, name)
        for name in dir(pynvml)
        if name.startswith("nvmlClocksThrottleReason") and name.endswith(("Slowdown", "PowerCap"))
    }

    def read() -> Reading:
        milliwatts = ask("nvmlDeviceGetPowerUsage")
        millijoules = ask("nvmlDeviceGetTotalEnergyConsumption")
        memory, load = ask("nvmlDeviceGetMemoryInfo"), ask("nvmlDeviceGetUtilizationRates")
        held = ask("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
        return Reading(
            watts=None if milliwatts is None else milliwatts / 1e3,
            joules=None if millijoules is None or first is None else (millijoules - first) / 1e3,
            gpu_mhz=ask("nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_SM),
            gpu_c=ask("nvmlDeviceGetTemperature", pynvml.NVML_TEMPERATURE_GPU),
            gpu_load=None if load is None else load.gpu,
            gpu_memory_mib=None if memory is None else memory.used / 2**20,
            throttled=tuple(name for name, bit in reasons.items() if held & bit),
        )

    return Source("nvml", "GPU", read, pynvml.nvmlShutdown)


def _nvml_index(device: str) -> int | None:
    """Return NVML's number of a CUDA device: NVML does not look at CUDA_VISIBLE_DEVICES."""
    number = int(device.partition(":")[2] or 0)
    visible = [word.strip() for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if word.strip()]
    if not visible:
        return number
    return int(visible[number]) if number < len(visible) and visible[number].isdecimal() else None


def jtop() -> Source | None:
    """Return what jetson-stats' service says; None where it is not installed or does not run."""
    try:
        from jtop import JtopException  # type: ignore[import-not-found,unused-ignore]
        from jtop import jtop as connect
    except ImportError:
        return None
    board = connect()
    try:
        board.start()
    except (JtopException, OSError):
        return None

    def read() -> Reading:
        # In mW, with the rail that carries the whole board, where there is one, apart from the others.
        whole = board.power.get("tot", {})
        rails = {**board.power.get("rail", {}), **({whole["name"]: whole} if "name" in whole else {})}
        rails_w = {name: rail["power"] / 1e3 for name, rail in rails.items()}
        gpu: dict[str, Any] = next(iter(board.gpu.values()), {})
        clock = gpu.get("freq", {}).get("cur")  # in kHz
        hot = {name.lower(): sensor.get("temp") for name, sensor in board.temperature.items()}
        return Reading(
            watts=total_watts(rails_w),
            rails_w=rails_w,
            gpu_mhz=clock / 1e3 if clock else None,
            gpu_c=hot.get("gpu"),
            gpu_load=gpu.get("status", {}).get("load"),
        )

    return Source("jtop", "board", read, board.close)


def tegrastats() -> Source | None:
    """Return what tegrastats prints beside the run; None where there is none."""
    program = shutil.which("tegrastats")
    if program is None:
        return None
    child = subprocess.Popen([program, "--interval", str(TEGRASTATS_MS)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    pipe = child.stdout.fileno()
    os.set_blocking(pipe, False)
    unread = [b""]

    def read() -> Reading:
        """Return the newest whole line, nothing where none came since the last look."""
        with suppress(BlockingIOError):  # everything was read
            while chunk := os.read(pipe, 65536):
                unread[0] += chunk
        *lines, unread[0] = unread[0].split(b"\n")
        if not lines:
            return Reading()
        line = parse(lines[-1].decode(errors="replace"))
        hot = {name.lower(): value for name, value in line.temperatures_c.items()}
        return Reading(
            watts=total_watts(line.rails_w),
            rails_w=line.rails_w,
            gpu_mhz=line.gpu_mhz,
            gpu_c=hot.get("gpu"),
            gpu_load=line.gpu_load,
        )

    def close() -> None:
        child.terminate()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()

    return Source("tegrastats", "board", read, close)


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
