"""The classic systems of docs/recipes.md, whole: what each reaches on its test images, and how long it takes.

    python benchmarks/get_datasets.py -o DATA
    python benchmarks/classic.py DATA [--systems transfer,mlp,...] [--images 100,1000] [--seeds 3]

`transfer` trains a network on MNIST and moves it to Fashion-MNIST, with --images (0: all of them), beside the
same network from scratch on the same images: its peer. `mlp`'s peer is scikit-learn's MLPClassifier with
layers as wide, on the same training images. DATA/gtsrb and DATA/magnetic_tile are folders of images. A system
that cannot run here, for want of data or weights, says why. --more gives words to every `tledge finetune`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SYSTEMS = {
    "resnet50": "cifar10 --backbone torchvision:resnet50",
    "resnet50-sgd": "cifar10 --backbone torchvision:resnet50 --optimizer sgd",
    "resnet50-head": "cifar10 --backbone torchvision:resnet50 --freeze backbone --head mlp:1024",
    "vgg16": "cifar10 --backbone torchvision:vgg16 --freeze backbone --head mlp:4096,4096 --pool flatten",
    "mlp": "mnist --backbone tledge:mlp",
    "gtsrb": "gtsrb",
    "magnetic_tile": "magnetic_tile",
}


def finetune(data: Path, out: Path, words: list[str]) -> dict[str, Any]:
    """Run `tledge finetune`; return top-1 (%), its interval, seconds and each epoch's accuracy on tune."""
    folder, *options = words
    command = [
        sys.executable,
        "-m",
        "tledge",
        "finetune",
        str(data / folder),
        "-o",
        str(out),
        "--json",
        *options,
    ]
    started = time.monotonic()
    done = subprocess.run([*command, "--eval-images", "10000"], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        return {"error": json.loads(done.stdout)["error"]["message"] if done.stdout else "no answer"}
    row = json.loads(done.stdout)["ledger"][0]
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    history = manifest["settings"]["finetune"]["chosen"]["history"]
    return {
        "command": f"tledge finetune {folder} {shlex.join(options)}",
        "top1": row["top1"],
        "interval": [row["top1_low"], row["top1_high"]],
        "images": row["n"],
        "tune_top1_by_epoch": [entry.get("tune_top1") for entry in history],
        "seconds": time.monotonic() - started,
    }


def scikit_learn(data: Path, seed: int) -> dict[str, Any]:
    """Train scikit-learn's perceptron on MNIST's pixels, with early stopping on a tenth of train."""
    import numpy as np
    from sklearn.neural_network import MLPClassifier

    from tledge.data import records

    def part(name: str) -> tuple[Any, Any]:
        images = records.read_idx(data / "mnist" / f"{name}-images-idx3-ubyte", 3)
        labels = records.read_idx(data / "mnist" / f"{name}-labels-idx1-ubyte", 1)
        return images.reshape(len(images), -1).astype(np.float32) / 255, labels

    started = time.monotonic()
    network = MLPClassifier((512, 512), batch_size=128, early_stopping=True, random_state=seed)
    network.fit(*part("train"))
    right = 100 * network.score(*part("t10k"))
    return {"top1": right, "images": 10000, "seconds": time.monotonic() - started}


def transfer(data: Path, source: Path, images: int, seed: int, more: list[str]) -> dict[str, Any]:
    """Return both runs on `images` of Fashion-MNIST (0: all): from the source network, and from scratch."""
    few = ["--seed", str(seed), *(["--train-images", str(images)] if images else []), *more]
    with_it = ["fashion-mnist", "--from", str(source), *few]
    without = ["fashion-mnist", "--backbone", "tledge:cnn", *few]
    return {
        name: finetune(data, source.with_name(f"{name}-{images}-{seed}.tledge"), words)
        for name, words in (("with", with_it), ("without", without))
    }


def show(name: str, runs: list[dict[str, Any]]) -> None:
    """Print one row: the mean over seeds, least and greatest."""
    failed = next((run["error"] for run in runs if "error" in run), None)
    if failed:
        print(f"| {name} | not run: {failed} | |", flush=True)
        return
    scores = [run["top1"] for run in runs]
    spread = f" ({min(scores):.2f} to {max(scores):.2f})" if len(scores) > 1 else ""
    seconds = statistics.mean(run["seconds"] for run in runs)
    print(f"| {name} | {statistics.mean(scores):.2f}{spread} | {seconds:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--systems", default=",".join(("transfer", *SYSTEMS)))
    parser.add_argument("--images", default="100,1000,0", help="of the target task; 0: all")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--more", default="", help="options for every run, such as '--epochs 2'")
    parser.add_argument("--source-more", default="", help="options for the source task alone")
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    asked, more = given.systems.split(","), shlex.split(given.more)
    if unknown := set(asked) - {"transfer", *SYSTEMS}:
        parser.error(f"unknown: {', '.join(unknown)}; there are transfer, {', '.join(SYSTEMS)}")
    results: dict[str, list[dict[str, Any]]] = {}
    print("| system | top-1 % on test | seconds |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)

        def row(name: str, runs: list[dict[str, Any]]) -> None:
            results[name] = runs
            show(name, runs)
            if given.out:
                given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")

        if "transfer" in asked:
            source = folder / "source.tledge"
            words = [
                "mnist",
                "--backbone",
                "tledge:cnn",
                "--weights",
                "none",
                *shlex.split(given.source_more),
            ]
            row("MNIST, the source", [finetune(given.data, source, words)])
            for images in map(int, given.images.split(",")):
                seeds = range(given.seeds)
                both = [transfer(given.data, source, images, seed, more) for seed in seeds]
                for name in ("with", "without"):
                    row(f"Fashion-MNIST, {images or 'all'} images, {name}", [one[name] for one in both])
        for name in (name for name in SYSTEMS if name in asked):
            words = [*shlex.split(SYSTEMS[name]), *more]
            outs = {seed: folder / f"{name}-{seed}.tledge" for seed in range(given.seeds)}
            row(
                name, [finetune(given.data, out, [*words, "--seed", str(seed)]) for seed, out in outs.items()]
            )
            if name == "mlp":
                row("mlp of scikit-learn", [scikit_learn(given.data, seed) for seed in range(given.seeds)])


if __name__ == "__main__":
    main()
