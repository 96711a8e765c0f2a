"""Where a run computes, and in which precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from tledge.errors import MachineError
from tledge.training.depthwise import FloatGradients


@dataclass(frozen=True)
class Device:
    """A torch device, and whether its convolutions are faster in bfloat16; `number` tells GPUs apart."""

    name: str
    bf16: bool
    number: int = 0

    @property
    def torch(self) -> torch.device:
        """Return torch's own device."""
        return torch.device(self.label)

    @property
    def label(self) -> str:
        """Return how the ledger calls it."""
        return f"cuda:{self.number}" if self.name == "cuda" else "cpu"

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Run features and training in the block's precision (weights stay in float32)."""
        gradients = FloatGradients() if self.bf16 and self.name == "cpu" else nullcontext()
        with torch.autocast(self.torch.type, torch.bfloat16, enabled=self.bf16), gradients:
            yield


def choose(asked: str, number: int = 0) -> Device:
    """Return the device for "auto", "cpu" or "cuda"; of several GPUs that of this `number`.

    bfloat16 is used where the hardware multiplies it: AVX512-BF16 or AMX on x86, BF16 on arm64, CUDA from
    Ampere on. On two cores with AVX512-BF16 EfficientNet-Lite0 takes 7 ms an image instead of 17, and a
    training step 39 instead of 66 (channels_last, batch 32). Elsewhere it would be emulated, and slower.

    Raises:
        MachineError: "cuda" was asked for and is not there.
    """
    if asked == "cuda" and not torch.cuda.is_available():
        raise MachineError(
            "torch finds no CUDA device here", hint="`tledge doctor` says why; or --device cpu."
        )
    if asked != "cpu" and torch.cuda.is_available():
        return Device("cuda", torch.cuda.get_device_capability(number) >= (8, 0), number)
    return Device("cpu", bool({"avx512_bf16", "amx_bf16", "bf16"} & _cpu_flags()))


@contextmanager
def threads(backbone: str) -> Iterator[None]:
    """Compute with one thread while the block runs, where the network is tiny.

    A layer of a tiny network takes less time than waking the other threads does.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1 if backbone.startswith("tledge:") else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    line = next((line for line in text.splitlines() if line.lower().startswith(("flags", "features"))), "")
    return set(line.partition(":")[2].split())
