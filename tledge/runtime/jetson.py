"""What a Jetson says of itself: board, release, power mode, clocks. All from files; nothing is started.

The power mode is nvpmodel's: its number in /var/lib/nvpmodel/status, its name in /etc/nvpmodel.conf (Jetson
Linux Developer Guide, "Platform Power and Performance"). `jetson_clocks` fixes a clock by making its lowest
rate the highest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tledge.bundle import provenance
from tledge.runtime.place import TEGRA_RELEASE, l4t_release

# https://developer.nvidia.com/embedded/jetpack-archive: the L4T release that each JetPack stands on.
JETPACKS = {(35,): "5", (36, 2): "6", (36, 3): "6", (36, 4): "6.1 or 6.2", (38,): "7.0 or 7.1", (39,): "7.2"}
GPU_CLOCKS = ("*gpu*", "*.ga10b", "*.gv11b")  # names of the GPU's devfreq entries, of Orin and Xavier
KHZ, HZ = 1e3, 1e6  # what sysfs gives for CPUs and for devices, in MHz


@dataclass(frozen=True)
class Clock:
    """One clock in MHz: now, and between what it may move."""

    name: str
    now_mhz: float
    lowest_mhz: float
    highest_mhz: float

    @property
    def is_fixed(self) -> bool:
        """Tell whether the clock stays where it is."""
        return self.lowest_mhz == self.highest_mhz


@dataclass(frozen=True)
class Jetson:
    """A board; None for what it does not say. `power_mode` is such as "MAXN (0)"."""

    board: str | None
    l4t: str | None
    jetpack: str | None
    power_mode: str | None
    clocks: tuple[Clock, ...]


def this_jetson(root: Path = Path("/")) -> Jetson | None:
    """Return what this board says; None on another machine. `root` is where its files start."""
    release = root / TEGRA_RELEASE.relative_to("/")
    if not release.exists():
        return None
    l4t = l4t_release(release)
    numbers = tuple(int(number) for number in l4t.split(".")[:2]) if l4t else ()
    jetpack = JETPACKS.get(numbers) or JETPACKS.get(numbers[:1])
    return Jetson(provenance.processor() or None, l4t or None, jetpack, power_mode(root), clocks(root))


def power_mode(root: Path = Path("/")) -> str | None:
    """Return nvpmodel's mode, such as "15W (2)"; its number alone where its list has no name for it."""
    status = re.search(r"pmode:(\d+)", _text(root / "var/lib/nvpmodel/status") or "")
    if not status:
        return None
    number = int(status[1])
    modes = re.findall(r"POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)", _text(root / "etc/nvpmodel.conf") or "")
    name = {int(mode): name for mode, name in modes}.get(number)
    return f"{name} ({number})" if name else str(number)


def clocks(root: Path = Path("/")) -> tuple[Clock, ...]:
    """Return the clocks of the processor's clusters and of the GPU, as far as they can be read."""
    policies = sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*"))
    found = [_clock(f"CPU {path.name}", path, "scaling_{}_freq", KHZ) for path in policies]
    devices = root / "sys/class/devfreq"
    gpus = sorted({path for pattern in GPU_CLOCKS for path in devices.glob(pattern)})
    found += [_clock(f"GPU {path.name}", path, "{}_freq", HZ) for path in gpus]
    return tuple(clock for clock in found if clock is not None)


def _clock(name: str, folder: Path, file: str, unit: float) -> Clock | None:
    rates = [_text(folder / file.format(what)) for what in ("cur", "min", "max")]
    numbers = [float(rate) / unit for rate in rates if rate and rate.isdigit()]
    return Clock(name, *numbers) if len(numbers) == len(rates) else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
