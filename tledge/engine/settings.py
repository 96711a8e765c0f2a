"""What an engine is built for: batch sizes, memory, and the GPUs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tledge.errors import UsageError
from tledge.runtime.engine_manifest import Batch
from tledge.runtime.tensorrt_library import check_backend


@dataclass(frozen=True)
class BuildSettings:
    """Everything that decides what comes out of a build, other than the graph.

    `image` is the shape of one input, for graphs whose height and width are dynamic; `workspace_mib` the most
    memory that the engine may use besides weights and activations (None: as much as is free, within bounds);
    `targets` the GPUs, `sm86` and so on (empty: the one in this machine).
    """

    backend: str = "tensorrt"
    batch: Batch = (1, 1, 1)
    image: tuple[int, ...] = ()
    workspace_mib: int | None = None
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_backend(self.backend)
        if not 1 <= self.batch[0] <= self.batch[1] <= self.batch[2]:
            raise UsageError(
                f"batch sizes {':'.join(map(str, self.batch))} are not in order",
                hint="Give smallest:usual:largest, such as 1:8:16, each 1 or more.",
            )
        if self.workspace_mib is not None and self.workspace_mib < 1:
            raise UsageError(
                f"a workspace of {self.workspace_mib} MiB", hint="Give 1 or more, or leave it out."
            )
        if self.targets and self.backend != "tensorrt-rtx":
            raise UsageError(
                "TensorRT builds for the GPU that it runs on, and takes no --target",
                hint="Build on the machine itself, or use --backend tensorrt-rtx for RTX GPUs.",
            )


def parse_batch(text: str) -> Batch:
    """Return the batch sizes that `4`, `1:8` or `1:8:16` stand for.

    One number is a fixed batch; two are smallest and largest, the largest to be the fastest.
    """
    parts = text.split(":")
    if not all(re.fullmatch(r"[0-9]{1,6}", part) for part in parts) or len(parts) > 3:
        raise UsageError(f"{text!r} gives no batch sizes", hint="Give one number, or 1:8:16.")
    sizes = [int(part) for part in parts]
    return sizes[0], sizes[-2] if len(sizes) == 3 else sizes[-1], sizes[-1]


def parse_targets(text: str) -> tuple[str, ...]:
    """Return the GPUs that `sm86,sm89` stands for, each once, in ascending order."""
    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    for word in words:
        if not re.fullmatch(r"sm[0-9]{2,3}", word):
            raise UsageError(
                f"{word!r} is no GPU architecture",
                hint="Give sm and the compute capability without its dot: sm86 for 8.6.",
            )
    return tuple(sorted(set(words), key=lambda word: int(word[2:])))


def free_memory_mib(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Return the memory in MiB that processes could still have, by the kernel's own estimate."""
    for line in meminfo.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    raise ValueError(f"{meminfo} has no MemAvailable")


def capped_workspace(asked_mib: int | None, *, shared_memory: bool, free_mib: int) -> int | None:
    """Return the workspace in MiB to allow, None for the library's own choice (all of the GPU's memory).

    Where GPU and processor share their memory (a Jetson), a build that takes all of it is killed by the
    kernel: at most half of what is free is allowed there.
    """
    if not shared_memory:
        return asked_mib
    half = max(1, free_mib // 2)
    return half if asked_mib is None else min(asked_mib, half)
