"""Time tledge's preprocessing against its peers: pixels, JPEG or NV12 frames to a 224 x 224 float32 tensor.

Each peer runs in a process of its own, on one thread, in the environment that has it. All take turns in short
rounds, so that a busy moment of the machine meets each of them; the medians of the rounds are printed, with
the smallest, which a busy machine disturbs least. A peer that is not installed is left out, and said so.

    python benchmarks/preprocessing.py --python opencv=CV/bin/python --python assembly=SIMD/bin/python

The image is scikit-learn's photograph of a temple, rescaled; the specification is Resize(256),
CenterCrop(224), ImageNet's mean and std. Only the peers marked exact give Pillow's bits. `--clock processor`
counts the processor time of all threads instead, for a machine whose processors other work shares.

PyPI has all peers: opencv-python-headless, pillow-simd (with opencv for `assembly`), albumentations,
kornia-rs, nvidia-dali-cuda120, pyvips[binary].
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from preprocessing_peers import PEERS

SIZES = ((500, 375), (640, 480), (1280, 720), (1920, 1080), (3840, 2160))
THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "VIPS_CONCURRENCY",
)

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def serve(peer: str, clock: str) -> None:
    """Answer each size on standard input with the median time of a few runs, in microseconds."""
    now = CLOCKS[clock]
    maker, takes, _ = PEERS[peer]
    run = maker()
    inputs: dict[str, Any] = {}
    print("ready", flush=True)
    for line in sys.stdin:
        path, repeat = json.loads(line)
        if path not in inputs:
            inputs[path] = Path(path).read_bytes() if takes == "jpeg" else np.load(path)
            run(inputs[path])
        times = []
        for _ in range(repeat):
            begun = now()
            run(inputs[path])
            times.append(now() - begun)
        print(1e6 * statistics.median(times), flush=True)


def start(peer: str, python: str, clock: str) -> subprocess.Popen[str] | None:
    """Start a peer; None where it does not import."""
    environment = {**os.environ, **dict.fromkeys(THREADS, "1")}
    if peer == "tledge-avx2":
        environment["TLEDGE_INSTRUCTION_SET"] = "avx2"
    process = subprocess.Popen(
        [python, __file__, "--serve", peer, "--clock", clock],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    return process if process.stdout.readline().strip() == "ready" else None


def nv12(width: int, height: int, ycc: np.ndarray) -> np.ndarray:
    """Return the planes of an even-sized frame, one under the other; chroma is every second pixel's."""
    pairs = ycc[::2, : width // 2 * 2 : 2, 1:].reshape(-1, width)[: height // 2]
    return np.ascontiguousarray(np.concatenate([ycc[: height // 2 * 2, :, 0], pairs]))


def write_inputs(folder: Path) -> dict[tuple[int, int], dict[str, Path]]:
    """Write each size as pixels, as a JPEG of quality 90, 4:2:0, and as a frame (its odd row left out)."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    photograph = Image.fromarray(load_sample_image("china.jpg"))
    files = {}
    for width, height in SIZES:
        image = photograph.resize((width, height), Image.Resampling.BICUBIC)
        stem = str(folder / f"{width}x{height}")
        paths = {"pixels": Path(f"{stem}.npy"), "jpeg": Path(f"{stem}.jpg"), "nv12": Path(f"{stem}.nv12.npy")}
        np.save(paths["pixels"], np.asarray(image))
        image.save(paths["jpeg"], quality=90, subsampling=2)
        np.save(paths["nv12"], nv12(width, height, np.asarray(image.convert("YCbCr"))))
        files[width, height] = paths
    return files


def measure(
    peers: dict[str, subprocess.Popen[str]], folder: Path, rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Return the median time of each round, in microseconds: peer, size, rounds."""
    files = write_inputs(folder)
    found: dict[str, dict[str, list[float]]] = {name: {} for name in peers}
    for _ in range(rounds):
        for (width, height), paths in files.items():
            for name, process in peers.items():
                path = paths[PEERS[name][1]]
                repeat = 20 if width * height < 1_000_000 else 5
                assert process.stdin is not None
                assert process.stdout is not None
                print(json.dumps([str(path), repeat]), file=process.stdin, flush=True)
                found[name].setdefault(f"{width}x{height}", []).append(float(process.stdout.readline()))
    return found


def table(found: dict[str, dict[str, list[float]]], takes: str) -> str:
    """Return a Markdown table: median of the rounds (smallest), milliseconds, and times the first's median.

    The first is tledge, in whichever form it was measured; else the peer that was named first.
    """
    alike = [name for name in found if PEERS[name][1] == takes]
    ours = next((name for name in alike if name.startswith("tledge")), alike[0])
    sizes = [f"{width}x{height}" for width, height in SIZES]
    lines = [f"| from {takes} | " + " | ".join(sizes) + " | |", "| --- |" + " --- |" * (len(sizes) + 1)]
    for name, times in found.items():
        if PEERS[name][1] != takes:
            continue
        cells = []
        for size in sizes:
            median = statistics.median(times[size])
            ratio = median / statistics.median(found[ours][size])
            cells.append(f"{median / 1000:.3f} ({min(times[size]) / 1000:.3f}) {ratio:.1f}x")
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {PEERS[name][2]} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument(
        "--python", action="append", default=[], metavar="PEER=PATH", help="a peer's interpreter"
    )
    parser.add_argument("--peers", default=",".join(PEERS), help="which (default: all)")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--serve", choices=PEERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.clock)
        return
    import tempfile

    pythons = dict(pair.split("=", 1) for pair in arguments.python)
    started = {
        name: start(name, pythons.get(name, sys.executable), arguments.clock)
        for name in arguments.peers.split(",")
    }
    missing = [name for name, process in started.items() if process is None]
    peers = {name: process for name, process in started.items() if process is not None}
    if missing:
        print(f"not installed: {', '.join(missing)}\n")
    with tempfile.TemporaryDirectory() as folder:
        found = measure(peers, Path(folder), arguments.rounds)
    for process in peers.values():
        process.terminate()
        process.wait()
    print(f"milliseconds ({arguments.clock} time) on one thread")
    print("median of the rounds (smallest), times the median of tledge (else of the first)\n")
    for takes in ("pixels", "jpeg", "nv12"):
        if any(PEERS[name][1] == takes for name in peers):
            print(table(found, takes), end="\n\n")


if __name__ == "__main__":
    main()
