"""Whether the bench says the same twice, and notices a busy machine.

    python benchmarks/repeatability.py photos.tledge [--runs 3] [--duration 10] [options of tledge bench]

Runs `tledge bench` several times, each in a fresh process, then once beside a busy loop. Prints one JSON
document: the P50 of each run, by how much they differ, which were valid, and what was said beside the loop.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

BUSY = [sys.executable, "-c", "while True: pass"]


def bench(bundle: Path, duration: float, options: list[str]) -> dict[str, Any]:
    words = ["bench", str(bundle), "--duration", str(duration), "--force", "--json", "-q", *options]
    child = subprocess.run([sys.executable, "-m", "tledge", *words], capture_output=True, check=True)
    found: dict[str, Any] = json.loads(child.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--duration", type=float, default=10.0)
    wanted, options = parser.parse_known_args()
    runs = [bench(wanted.bundle, wanted.duration, options) for _ in range(wanted.runs)]
    loop = subprocess.Popen(BUSY)
    try:
        beside = bench(wanted.bundle, wanted.duration, options)
    finally:
        loop.kill()
        loop.wait()
    p50 = [run["latency_ms"]["p50"] for run in runs]
    document = {
        "p50_ms": [round(value, 4) for value in p50],
        "spread_percent": round((max(p50) / min(p50) - 1) * 100, 2),
        "valid": [run["valid"] for run in runs],
        "reasons": [run["reasons"] for run in runs],
        "sampled": runs[0]["environment"]["sampled"],
        "beside_a_busy_loop": {key: beside[key] for key in ("valid", "reasons")},
        "cpu": runs[0]["environment"]["cpu"],
    }
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
