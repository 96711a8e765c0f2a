"""Cold start: from the start of a fresh process to its first label, and the memory that it needed.

The files of bundle and libraries are in the disk cache by then, as they are when a service is restarted; a
first start after power-on also reads them from the disk.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tledge.errors import MachineError

REPEATS = 3
PARTS = ("interpreter", "import", "open", "load", "first")

# Runs in the child, alone, so that nothing of the bench is in its way. time.monotonic is one clock for all
# processes.
CHILD = """
import sys, time
stamps = [time.monotonic()]
import json
from pathlib import Path
from tledge.bundle import Bundle
from tledge.runtime import open_model
stamps.append(time.monotonic())
path, backend, variant, threads = sys.argv[1:]
data = sys.stdin.buffer.read()
bundle = Bundle.open(Path(path))
stamps.append(time.monotonic())
model = open_model(bundle, backend, variant, threads=int(threads))
stamps.append(time.monotonic())
label = model.predict(data).label
stamps.append(time.monotonic())
status = Path("/proc/self/status").read_text()
peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
print(json.dumps({"stamps": stamps, "peak_kib": peak, "label": label}))
"""


@dataclass(frozen=True)
class ColdStart:
    """Medians of a few cold starts: total and parts in ms; `peak_memory_mib` the largest resident set.

    Parts: the interpreter's own start, the imports, opening the bundle, loading the graph (with its library
    and the warm-up), the first label.
    """

    total_ms: float
    parts_ms: dict[str, float]
    peak_memory_mib: float


def measure(
    bundle: Path, backend: str, variant: str, *, threads: int, image: bytes, repeats: int = REPEATS
) -> ColdStart:
    """Start `repeats` processes in turn, each of which loads the bundle and labels `image` (a file's bytes).

    MachineError: such a process failed, though this one could load the bundle (killed for memory, for
    instance).
    """
    starts = [_start(bundle, backend, variant, threads, image) for _ in range(repeats)]
    parts = [statistics.median(times[part] for times, _ in starts) for part in range(len(PARTS))]
    total = statistics.median(sum(times) for times, _ in starts)
    return ColdStart(total, dict(zip(PARTS, parts, strict=True)), max(peak for _, peak in starts))


def _start(bundle: Path, backend: str, variant: str, threads: int, image: bytes) -> tuple[list[float], float]:
    command = [sys.executable, "-c", CHILD, str(bundle), backend, variant, str(threads)]
    started = time.monotonic()
    child = subprocess.run(command, input=image, capture_output=True, check=False)
    if child.returncode != 0:
        said = child.stderr.decode(errors="replace").strip().splitlines()
        raise MachineError(
            f"a fresh process could not load {bundle}: {said[-1] if said else f'exit {child.returncode}'}",
            hint="Is there enough memory for a second process?",
            path=bundle,
        )
    answer = json.loads(child.stdout.splitlines()[-1])
    stamps = [started, *answer["stamps"]]
    times = [(after - before) * 1e3 for before, after in pairwise(stamps)]
    return times, answer["peak_kib"] / 1024
