"""Time a training step on a CPU: float32, torch's bfloat16, and bfloat16 as `tledge finetune` trains.

    python benchmarks/training_step.py --threads 1 --sizes 96,192

EfficientNet-Lite0 with random weights, 32 images, channels_last, batch norm frozen. The three take turns, so
that a busy moment of the machine meets each; the least of all rounds is printed, which others disturb least,
in milliseconds an image for forward and backward. Without AVX512-BF16 or AMX bfloat16 is emulated.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from tledge.training.device import Device

BATCH = 32
WAYS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "float32": nullcontext,
    "torch's bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "tledge": Device("cpu", bf16=True).autocast,
}


def network() -> nn.Module:
    import timm

    found: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=10)
    found = found.to(memory_format=torch.channels_last).train()
    for module in found.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return found


def step(model: nn.Module, x: torch.Tensor, way: Callable[[], AbstractContextManager[None]]) -> float:
    """Return the seconds of one forward and backward pass."""
    begun = time.perf_counter()
    with way():
        logits = model(x)
    nn.functional.cross_entropy(logits.float(), torch.zeros(len(x), dtype=torch.long)).backward()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--sizes", default="96,192", help="sides of the input, pixels")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    model = network()
    print(f"| pixels | {' | '.join(WAYS)} |\n| --- |{' --- |' * len(WAYS)}")
    for size in map(int, given.sizes.split(",")):
        x = torch.randn(BATCH, 3, size, size).contiguous(memory_format=torch.channels_last)
        rounds = [[step(model, x, way) for way in WAYS.values()] for _ in range(given.rounds)]
        least = [1000 * min(times) / BATCH for times in zip(*rounds, strict=True)]
        print(f"| {size} | {' | '.join(f'{ms:.1f}' for ms in least)} |")


if __name__ == "__main__":
    main()
