"""Fine-tuning against a plain loop: the same images, backbone and weights; accuracy on val and time to it.

    python benchmarks/finetuning.py DATA [--runs probe,finetune,reference] [--epochs N] [-o RESULTS.json]

DATA has train/ and val/. Each run is a process of its own. `probe` and `finetune` are `tledge finetune` with
its defaults (audit, export and scores are in their time). `reference` is the loop of PyTorch's
transfer-learning tutorial: random crops and mirror images by torchvision, a new head, SGD at 0.001 with
momentum 0.9, a tenth of the rate every seven epochs, float32. Its val accuracy is taken after each epoch, and
the best one counts, which favours it: val chose it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RUNS = ("probe", "finetune", "reference")


def tledge(data: Path, method: str, backbone: str, seed: int) -> dict[str, Any]:
    """Run `tledge finetune` and return top-1 (%), seconds, and what its rules chose."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "b.tledge"
        words = ["finetune", str(data), "-o", str(out), "--method", method, "--backbone", backbone]
        started = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "tledge", *words, "--seed", str(seed), "--json"],
            check=True,
            stdout=subprocess.PIPE,
        )
        seconds = time.monotonic() - started
        manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        row = json.loads((out / "ledger.json").read_text(encoding="utf-8"))["rows"][0]
    return {"top1": row["top1"], "seconds": seconds, "chosen": manifest["settings"]["finetune"]["chosen"]}


def reference(data: Path, backbone: str, seed: int, epochs: int) -> dict[str, Any]:
    """Run the tutorial's loop and return top-1 (%) and seconds after each epoch."""
    import torch
    from torch import nn
    from torchvision import datasets, transforms

    from tledge.models import create

    torch.manual_seed(seed)
    started = time.monotonic()
    normalise = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)])
    train = datasets.ImageFolder(
        data / "train",
        transforms.Compose([transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), normalise]),
    )
    val = datasets.ImageFolder(
        data / "val", transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), normalise])
    )
    network, _ = create(backbone, len(train.classes))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    curve = []
    for _ in range(epochs):
        network.train()
        for x, y in torch.utils.data.DataLoader(train, 32, shuffle=True, num_workers=2, drop_last=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()
        schedule.step()
        network.eval()
        with torch.inference_mode():
            loader = torch.utils.data.DataLoader(val, 32, num_workers=2)
            right = sum(int((network(x).argmax(1) == y).sum()) for x, y in loader)
        curve.append({"top1": 100 * right / len(val), "seconds": time.monotonic() - started})
        print(json.dumps(curve[-1]), file=sys.stderr, flush=True)
    return max(curve, key=lambda point: point["top1"]) | {"curve": curve}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", default=",".join(RUNS))
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.add_argument("--epochs", type=int, default=8, help="of the reference loop")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--in-process", choices=["reference"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.in_process:
        print(json.dumps(reference(given.data, given.backbone, given.seed, given.epochs)))
        return
    results = {}
    for run in given.runs.split(","):
        if run not in RUNS:
            parser.error(f"unknown run {run}: {', '.join(RUNS)}")
        if run == "reference":
            words = [sys.executable, __file__, *sys.argv[1:], "--in-process", run]
            results[run] = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)
        else:
            results[run] = tledge(given.data, run, given.backbone, given.seed)
        print(f"{run}: {results[run]['top1']:.2f} % in {results[run]['seconds']:.0f} s", flush=True)
    if given.out:
        given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
