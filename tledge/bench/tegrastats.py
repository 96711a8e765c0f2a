"""What a line of `tegrastats` says: the one tool that every Jetson has.

A field is where NVIDIA's Jetson Linux Developer Guide ("Tegrastats Utility") puts it; names and forms differ
from board to board and from release to release, and what a line does not say is absent here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

ABSENT_C = -256  # what a sensor that is powered down shows
# Rails that carry the whole board's power: Orin Nano and NX, Xavier NX, TX2; Nano; Thor.
WHOLE = ("VDD_IN", "POM_5V_IN", "VIN")
# Boards without such a rail: AGX Orin (VDDQ_VDD2_1V8AO is a part of VIN_SYS_5V0), AGX Xavier.
SUMS = (
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
)

_GPU = re.compile(r"\bGR3D_FREQ (?:(\d+)%)?(?:@\[?([\d,]+))?")
_TEMPERATURE = re.compile(r"(?<!\S)([A-Za-z]\w*)@(-?\d+(?:\.\d+)?)C(?=[\s/]|$)")
# "name now/average", in mW; newer releases write the unit and add the largest.
_RAIL = re.compile(r"(?<!\S)([A-Z][A-Z0-9_]*) (\d+)(?:mW)?/\d+(?:mW)?(?=[\s/]|$)")


@dataclass(frozen=True)
class Line:
    """What a bench needs of a line; None or empty for what it does not say.

    `gpu_load` in percent; temperatures (degrees Celsius) and rails (W) go by their names.
    """

    gpu_load: int | None = None
    gpu_mhz: float | None = None
    temperatures_c: dict[str, float] = field(default_factory=dict)
    rails_w: dict[str, float] = field(default_factory=dict)


def parse(text: str) -> Line:
    """Return what a line says; nothing of it is needed, and nothing raises."""
    gpu = _GPU.search(text)
    clocks = [int(clock) for clock in (gpu[2] or "").split(",") if clock] if gpu else []
    temperatures = {name: float(value) for name, value in _TEMPERATURE.findall(text)}
    return Line(
        gpu_load=int(gpu[1]) if gpu and gpu[1] else None,
        gpu_mhz=float(max(clocks)) if clocks else None,
        temperatures_c={name: value for name, value in temperatures.items() if value > ABSENT_C},
        rails_w={name: int(now) / 1e3 for name, now in _RAIL.findall(text) if name != "NC"},
    )


def total_watts(rails_w: dict[str, float]) -> float | None:
    """Return what the whole board takes, in W; None where its rails are not known."""
    for name in WHOLE:
        if name in rails_w:
            return rails_w[name]
    for names in SUMS:
        if all(name in rails_w for name in names):
            return sum(rails_w[name] for name in names)
    return None
