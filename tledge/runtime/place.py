"""The machine that an engine is for, as far as it decides whether an engine fits: GPU, driver, JetPack."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tledge.runtime import machine

TEGRA_RELEASE = Path("/etc/nv_tegra_release")


@dataclass(frozen=True)
class Place:
    """A machine's first GPU by name and architecture (`sm87`), its driver's CUDA, its L4T; "" for none."""

    gpu: str = ""
    architecture: str = ""
    cuda: str = ""
    l4t: str = ""

    @property
    def shares_memory(self) -> bool:
        """Tell whether GPU and processor share one memory: it is a Jetson."""
        return bool(self.l4t)


def this_machine() -> Place:
    """Return what this machine is."""
    cuda = machine.cuda()
    if not cuda.gpus:
        return Place(l4t=l4t_release())
    gpu = cuda.gpus[0]
    return Place(gpu.name, "sm{}{}".format(*gpu.compute_capability), cuda.version, l4t_release())


def l4t_release(path: Path = TEGRA_RELEASE) -> str:
    """Return the release of Jetson Linux, such as "36.4.3", or "" on a machine that is no Jetson.

    JetPack 6 is 36.x, JetPack 7 is 38.x and 39.x (docs/jetson.md).
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"{found[1]}.{found[2]}" if found else ""
