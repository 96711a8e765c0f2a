"""How fast images are read from a folder: fine-tuning, calibration and scoring, and torchvision's PIL path.

    python benchmarks/reading.py DATA/train [DATA2 ...] [--images 256] [--rounds 5]

DATA holds a folder of images for each class. Each way reads the same images on two workers, file to float32
batches of 32 x 3 x 224 x 224, in a process of its own; all take turns, and the medians of the rounds are
given: images a second, and milliseconds of processor time an image, which a busy machine disturbs less.
tledge checks the hash of each file where the command does (all but scoring a folder).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIDE, RESIZE, BATCH, WORKERS = 224, 256, 32, 2
MEAN = STD = (0.5, 0.5, 0.5)

Pass = Callable[[], int]


def files_of(folder: Path, count: int) -> list[Path]:
    """Return `count` image files, evenly from all classes."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return found[:: max(1, len(found) // count)][:count]


def _loader(steps: Any, files: list[Path]) -> Pass:
    import torch
    from torch.utils.data import DataLoader, Dataset
    from torchvision.datasets.folder import pil_loader

    class Files(Dataset[Any]):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> Any:
            return steps(pil_loader(str(files[index])))

    torch.set_num_threads(1)
    loader = DataLoader(Files(), BATCH, num_workers=WORKERS, persistent_workers=True)
    return lambda: sum(len(batch) for batch in loader)


def torchvision_eval(files: list[Path]) -> Pass:
    from torchvision import transforms as t

    last = [t.ToTensor(), t.Normalize(MEAN, STD)]
    return _loader(t.Compose([t.Resize(RESIZE), t.CenterCrop(SIDE), *last]), files)


def torchvision_train(files: list[Path]) -> Pass:
    from torchvision import transforms as t

    last = [t.ToTensor(), t.Normalize(MEAN, STD)]
    views = [t.RandomResizedCrop(SIDE), t.RandomHorizontalFlip(), t.RandAugment(num_ops=1)]
    return _loader(t.Compose([*views, *last]), files)


def _prepare() -> Any:
    from tledge.preprocess import Crop, Spec, preprocessor

    return preprocessor(Spec(geometry=Crop(RESIZE, (SIDE, SIDE)), mean=MEAN, std=STD))


def evaluate(files: list[Path]) -> Pass:
    from tledge.data import Sample, decode
    from tledge.data.ahead import stacked

    prepare = _prepare()
    samples = [Sample(path.name, 0, path) for path in files]

    def tensor(sample: Any) -> Any:
        return decode.tensor(sample.read(), prepare, name=sample.name)

    return lambda: sum(len(batch) for batch in stacked(tensor, samples, BATCH, workers=WORKERS))


def calibrate(files: list[Path]) -> Pass:
    from tledge.data import Sample
    from tledge.quantization.images import Image, tensors

    prepare = _prepare()
    images = [
        Image(Sample(path.name, 0, path), 0, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files
    ]
    return lambda: sum(len(batch) for batch in tensors(prepare, images))


def _training(files: list[Path]) -> Any:
    from tledge.bundle import TrainFile
    from tledge.training.images import Images

    root = Path(os.path.commonpath(files))
    kept = [
        TrainFile(
            path=str(path.relative_to(root)),
            label=0,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            part="train",
        )
        for path in files
    ]
    return lambda: Images(kept, root, _prepare().spec)


def finetune_features(files: list[Path]) -> Pass:
    """The pass that computes features: the spec's tensor, and a small copy kept for the epochs."""
    from tledge.training.images import batches

    prepare, made = _prepare(), _training(files)

    def run() -> int:
        images = made()

        def make(index: int) -> Any:
            return prepare(images.whole(index))

        return sum(len(found) for found, _ in batches(make, range(len(files)), BATCH, WORKERS))

    return run


def finetune_epoch(files: list[Path]) -> Pass:
    """An epoch: random views of the small copies, each with one operation of RandAugment."""
    from tledge.training.augment import Augmentation, generator, view
    from tledge.training.images import batches

    prepare, images = _prepare(), _training(files)()
    how = Augmentation(min_area=0.25, flip=True, operations=1, magnitude=0.5)

    def make(index: int) -> Any:
        return view(images.small(index), (SIDE, SIDE), how, generator(0, 1, index))

    def run() -> int:
        every = range(len(files))
        return sum(len(prepare.normalise(pixels)) for _, pixels in batches(make, every, BATCH, WORKERS))

    return run


WAYS: dict[str, tuple[Callable[[list[Path]], Pass], str]] = {
    "evaluate": (evaluate, "torchvision-eval"),
    "calibrate": (calibrate, "torchvision-eval"),
    "finetune-features": (finetune_features, "torchvision-eval"),
    "torchvision-eval": (torchvision_eval, "torchvision-eval"),
    "finetune-epoch": (finetune_epoch, "torchvision-train"),
    "torchvision-train": (torchvision_train, "torchvision-train"),
}


def processor_seconds() -> float:
    """Return the processor time of this process and of its children, which wait for more work."""
    me = os.getpid()
    children = Path(f"/proc/{me}/task/{me}/children").read_text().split()
    total = 0.0
    for process in (str(me), *children):
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        total += (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    return total


def serve(way: str, folder: Path, count: int) -> None:
    """Make a pass for each line of standard input; answer with wall and processor seconds an image."""
    run = WAYS[way][0](files_of(folder, count))
    run()
    print("ready", flush=True)
    for _ in sys.stdin:
        before, begun = processor_seconds(), time.perf_counter()
        read = run()
        seconds = time.perf_counter() - begun
        print(json.dumps([seconds / read, (processor_seconds() - before) / read]), flush=True)


def measure(folder: Path, count: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return wall and processor seconds an image of each round, by way."""
    started = {}
    for way in WAYS:
        command = [sys.executable, __file__, "--serve", way, str(folder), "--images", str(count)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        started[way] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for process in started.values():
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
    for _ in range(rounds):
        for way, process in started.items():
            assert process.stdin is not None
            assert process.stdout is not None
            print("go", file=process.stdin, flush=True)
            wall, processor = json.loads(process.stdout.readline())
            found[way].append((wall, processor))
    for process in started.values():
        process.communicate()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.data[0], arguments.images)
        return
    print("| images | way | images/s | times torchvision | processor ms an image | times torchvision |")
    print("| --- | --- | --- | --- | --- | --- |")
    for folder in arguments.data:
        found = measure(folder, arguments.images, arguments.rounds)
        medians = {
            way: [statistics.median(column) for column in zip(*times, strict=True)]
            for way, times in found.items()
        }
        for way, (wall, processor) in medians.items():
            peer_wall, peer_processor = medians[WAYS[way][1]]
            speed = f"{1 / wall:.0f} | {peer_wall / wall:.1f}x"
            cost = f"{1000 * processor:.2f} | {peer_processor / processor:.1f}x"
            print(f"| {folder} | {way} | {speed} | {cost} |", flush=True)


if __name__ == "__main__":
    main()
