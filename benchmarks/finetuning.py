"""Fine-tuning against peers: the same images, backbone (EfficientNet-Lite0) and weights.

    python benchmarks/finetuning.py DATA [--runs probe,finetune,...] [--times 2m,4m] [--epochs N] [-o OUT]

DATA has train/ and val/. Each run is a process of its own; the peers' packages are installed below --work on
the first run (what is there is used as it is). Run it under `taskset -c 0`, and all have one thread.

- `probe`, `finetune`: `tledge finetune` with its defaults; audit, export and scores are in the time. With
  --times also `finetune --time`, a run for each.
- `reference`: the loop of PyTorch's transfer-learning tutorial: random crops and mirror images by
  torchvision, a new head, SGD at 0.001 with momentum 0.9, a tenth of it every seven epochs, float32.
- `timm`: its loader, optimiser, schedule and average, with what train.py (which is not in the package) calls
  --aa rand-m6-mstd0.5-inc1 --opt adamw --lr 5e-4 --weight-decay 0.05 --layer-decay 0.75 --warmup-epochs 1
  --smoothing 0.1 --model-ema --model-ema-warmup --amp --amp-dtype bfloat16 --channels-last.
- `fastai`: `vision_learner(...).fine_tune(N - 1)` with its defaults: an epoch of the head, then all.

Seconds are the processor's, of a run's process and its workers: on one core, what the clock would show if
nobody else worked there. A peer's val accuracy is taken after each epoch, outside of its time, and the best
one counts, which favours it: val chose it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

STEPS = str(Path(__file__).with_name("finetuning_peers.py"))
# The environment of each peer.
PEERS = {"reference": "timm", "timm": "timm", "fastai": "fastai"}
PACKAGES = {"timm": "timm", "fastai": "fastai timm"}
RUNS = ("probe", "finetune", *PEERS)


def tledge(data: Path, more: list[str], seed: int) -> dict[str, Any]:
    """Run `tledge finetune` and return top-1 (%), its interval, seconds, and what its rules chose."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "b.tledge"
        words = ["finetune", str(data), "-o", str(out), "--no-cache", "--seed", str(seed), "--json", *more]
        started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "tledge", *words], check=True, stdout=subprocess.PIPE)
        seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        row = json.loads((out / "ledger.json").read_text(encoding="utf-8"))["rows"][0]
    return {
        "top1": row["top1"],
        "interval": [row["top1_low"], row["top1_high"]],
        "seconds": seconds,
        "processor": busy,
        "curve": [{"top1": row["top1"], "seconds": seconds, "processor": busy}],
        "chosen": manifest["settings"]["finetune"]["chosen"],
    }


def python_of(environment: str, folder: Path) -> Path:
    """Return the interpreter of an environment, which is made where it is not there yet."""
    python = folder / environment / "bin" / "python"
    if not python.exists():
        venv.create(folder / environment, with_pip=True)
        install = [python, "-m", "pip", "install", "--quiet", *PACKAGES[environment].split()]
        subprocess.run(install, check=True)
    return python


def write_weights(path: Path) -> None:
    """Write the ImageNet weights that tledge starts from under timm's names."""
    import timm
    from safetensors.torch import save_file

    from tledge.models import lite

    name = "efficientnet-lite0"
    found = lite.weights(name, timm.create_model(lite.timm_name(name)).state_dict())
    save_file({key: tensor.contiguous() for key, tensor in found.items()}, path)


def peer(name: str, data: Path, work: Path, *, epochs: int, seed: int) -> dict[str, Any]:
    """Run a peer and return its best top-1 (%), the seconds until then, and all epochs."""
    python = python_of(PEERS[name], work)
    weights = work / "lite0.safetensors"
    if not weights.exists():
        write_weights(weights)
    words = [python, STEPS, name, data, weights, epochs, seed]
    with subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        curve = []
        for line in process.stdout:
            curve.append(json.loads(line))
            print(f"{name}: {line}", end="", file=sys.stderr, flush=True)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, STEPS)
    return {**max(curve, key=lambda point: point["top1"]), "curve": curve}


def reached(run: dict[str, Any], wanted: float) -> float | None:
    """Return the processor seconds until val accuracy was `wanted` percent."""
    return min((point["processor"] for point in run["curve"] if point["top1"] >= wanted), default=None)


def row(name: str, run: dict[str, Any], wanted: float) -> str:
    """Return the table's row of a run."""
    first, last = reached(run, wanted), run["curve"][-1]
    best = f"{run['top1']:.2f} | {run['processor']:.0f}"
    end = f"{last['top1']:.2f} | {last['processor']:.0f}"
    return f"| {name} | {best} | {end} | {'-' if first is None else f'{first:.0f}'} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", default=",".join(RUNS))
    parser.add_argument("--times", default="", help="limits for `finetune --time`, such as 2m,4m")
    parser.add_argument("--epochs", type=int, default=8, help="of the peers")
    parser.add_argument("--reach", type=float, default=93.0, help="time to this top-1 (%%) on val")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("build/finetuning"))
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    runs = given.runs.split(",")
    if unknown := set(runs) - set(RUNS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(RUNS)}")
    results: dict[str, Any] = {}
    header = f"| run | best % | seconds | last % | seconds | to {given.reach:g} %, s |"
    print(f"{header}\n|{' --- |' * 6}", flush=True)

    def keep(name: str, run: dict[str, Any]) -> None:
        results[name] = run
        print(row(name, run, given.reach), flush=True)
        if given.out:
            given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")

    for name in runs:
        if name in PEERS:
            try:
                run = peer(name, given.data, given.work, epochs=given.epochs, seed=given.seed)
            except subprocess.CalledProcessError as error:
                print(f"| {name} | not run: {error} | | | | |", flush=True)
                continue
            keep(name, run)
        else:
            keep(name, tledge(given.data, ["--method", name], given.seed))
    for limit in filter(None, given.times.split(",")):
        keep(f"finetune --time {limit}", tledge(given.data, ["--time", limit], given.seed))


if __name__ == "__main__":
    main()
