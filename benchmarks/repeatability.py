"""Whether the bench says the same twice, notices a busy machine, and takes no time itself.

    python benchmarks/repeatability.py photos.tledge [--runs 3] [--duration 10] [options of tledge bench]

Runs `tledge bench` several times, each in a fresh process, then once beside a busy loop. Prints one JSON
document: the P50 of each run, by how much they differ, which were valid, and what was said beside the loop.
Beside them stands the machine's own spread: `block_ms` is the time of the noise test's plain work around each
run. `rounds` repeats the same in one process, where the network and plain work of about its length take turns
of a quarter second: what plain work moves by from round to round is not the bench's. `same_twice_by_turns` is
the ratio of `fp32` on ONNX Runtime to itself in one run; `harness_us` the load generator's own time for a
query of 1 ms, less what the query measured itself.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tledge.bench.candidates import Candidate, Subject, images_of, loaded
from tledge.bench.comparison import block_ms, ratios
from tledge.bench.load import Rules, alone, in_turns, load
from tledge.bench.noise import BLOCK, calibrate
from tledge.bench.percentiles import percentile
from tledge.bundle import Bundle

BUSY = [sys.executable, "-c", "while True: pass"]


def bench(bundle: Path, duration: float, options: list[str]) -> dict[str, Any]:
    words = ["bench", str(bundle), "--duration", str(duration), "--force", "--json", "-q", *options]
    child = subprocess.run([sys.executable, "-m", "tledge", *words], capture_output=True, check=True)
    found: dict[str, Any] = json.loads(child.stdout)
    return found


def harness_us() -> dict[str, float]:
    """Return the generator's own time from one query to the next, in microseconds: quartiles."""
    spent = array("q")

    def spin(images: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        started = now = time.perf_counter_ns()
        while now < started + 1_000_000:
            now = time.perf_counter_ns()
        spent.append(now - started)
        return [0], [now]

    recording = alone(load(spin, 8, Rules(duration=2.0, min_queries=1024)))
    own = np.diff(recording.issued) - np.array(spent[-len(recording.issued) :])[:-1]
    low, middle, high = np.percentile(own, [25, 50, 75]) / 1e3
    return {"p25": round(low, 2), "p50": round(middle, 2), "p75": round(high, 2)}


def subject_of(bundle: Path) -> tuple[Subject, int]:
    """Return `fp32` on ONNX Runtime with one thread, and how many images it draws from."""
    opened = Bundle.open(bundle)
    found = images_of(opened, None, 0)
    who = Candidate("fp32", "onnxruntime", 1, 1)
    return loaded(opened, [who], found.files, "jpeg")[0], len(found.files)


def same_twice(subject: Subject, images: int, duration: float) -> dict[str, float]:
    """Return the ratio of P50 between one model and itself, by turns in one run, with its 95 % interval."""
    loads = [load(subject.query, images, Rules(duration, 1024)) for _ in range(2)]
    (ratio,) = ratios(in_turns(loads), ["again", "once"])
    return {name: round(value, 4) for name, value in ratio["latency"]["p50"].items()}


def rounds(subject: Subject, images: int, duration: float, count: int) -> dict[str, Any]:
    """Return the P50 of the network and of plain work that take turns, for each of `count` rounds."""
    blocks = calibrate(percentile(alone(load(subject.query, images, Rules(1.0, 64))).latencies, 0.5))

    def plain(positions: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        digest = hashlib.sha256()
        for _ in range(blocks):
            digest.update(BLOCK)
        return [0], [time.perf_counter_ns()]

    found: dict[str, list[float]] = {"network": [], "plain_work": [], "quotient": []}
    for _ in range(count):
        queries = (subject.query, plain)
        recordings = in_turns([load(query, images, Rules(duration, 256)) for query in queries])
        network, work = (percentile(one.latencies, 0.5) for one in recordings)
        for name, value in zip(found, (network, work, network / work), strict=True):
            found[name].append(round(value, 4))
    return found | {"spread_percent": {name: spread(values) for name, values in found.items()}}


def spread(values: Sequence[float]) -> float:
    """Return by how many percent the largest is above the smallest."""
    return round((max(values) / min(values) - 1) * 100, 2)


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
    work = [block_ms(run["environment"]["noise"]) for run in runs]
    subject, images = subject_of(wanted.bundle)
    document = {
        "harness_us": harness_us(),
        "same_twice_by_turns": same_twice(subject, images, wanted.duration),
        "rounds": rounds(subject, images, wanted.duration / 2, wanted.runs),
        "p50_ms": [round(value, 4) for value in p50],
        "spread_percent": spread(p50),
        "block_ms": [round(value, 6) for value in work],
        "block_spread_percent": spread(work),
        "p50_by_block_spread_percent": spread([one / block for one, block in zip(p50, work, strict=True)]),
        "valid": [run["valid"] for run in runs],
        "reasons": [run["reasons"] for run in runs],
        "sampled": runs[0]["environment"]["sampled"],
        "beside_a_busy_loop": {key: beside[key] for key in ("valid", "reasons")},
        "cpu": runs[0]["environment"]["cpu"],
    }
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
