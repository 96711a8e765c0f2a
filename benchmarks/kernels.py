"""What the CUDA kernels take of a GPU: registers and shared memory, for each architecture and compiler.

    python benchmarks/kernels.py [--architectures sm87,sm90] [--json]

Compiles every .cu of kernels/ with nvcc and each NVRTC that is here (PyPI: nvidia-cuda-nvrtc-cu12 for
JetPack 6, nvidia-cuda-nvrtc for CUDA 13); no GPU is needed. An architecture that a compiler does not know is
left out. Prints a markdown table; ends with 1 where a register was spilled.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from tledge.cuda.compiler import Compiler, compiled_by, compilers
from tledge.errors import MachineError

KERNELS = Path(__file__).parents[1] / "kernels"
ARCHITECTURES = ("sm87", "sm90", "sm110", "sm120")  # Orin, GH200, Thor, RTX 50

# What ptxas says of a kernel, among other things.
ENTRY = re.compile(
    r"Compiling entry function '(?P<kernel>\w+)'.*?"
    r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Use:
    """What one kernel takes: registers a thread, bytes of shared memory a block, bytes that were spilled."""

    kernel: str
    compiler: str
    architecture: str
    registers: int
    shared: int
    spilled: int


def uses(source: Path, compiler: Compiler, architecture: str) -> list[Use]:
    """Return what the source's kernels take; MachineError: the compiler does not know the architecture."""
    _, said = compiled_by(compiler, source, architecture, [source.parent], "--ptxas-options=-v")
    found = []
    for entry in ENTRY.finditer(said):
        shared = re.search(r"(\d+) bytes smem", entry["rest"])
        found.append(
            Use(
                kernel=entry["kernel"],
                compiler=f"{compiler.kind} {compiler.release}",
                architecture=architecture,
                registers=int(entry["registers"]),
                shared=int(shared[1]) if shared else 0,
                spilled=int(entry["stores"]) + int(entry["loads"]),
            )
        )
    return found


def all_uses(architectures: list[str]) -> list[Use]:
    found = []
    for source in sorted(KERNELS.glob("*.cu")):
        for compiler in compilers():
            for architecture in architectures:
                try:
                    found += uses(source, compiler, architecture)
                except MachineError as error:
                    print(error, file=sys.stderr)
    return found


def table(found: list[Use], architectures: list[str]) -> str:
    lines = [f"| kernel | compiler | {' | '.join(architectures)} | shared memory |"]
    lines.append("| --- " * (len(architectures) + 3) + "|")
    for kernel, compiler in dict.fromkeys((use.kernel, use.compiler) for use in found):
        mine = {use.architecture: use for use in found if (use.kernel, use.compiler) == (kernel, compiler)}
        registers = [str(mine[name].registers) if name in mine else "-" for name in architectures]
        shared = ", ".join(map(str, sorted({use.shared for use in mine.values()})))
        lines.append(f"| `{kernel}` | {compiler} | {' | '.join(registers)} | {shared} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--architectures", default=",".join(ARCHITECTURES))
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    architectures = wanted.architectures.split(",")
    found = all_uses(architectures)
    if wanted.json:
        print(json.dumps([asdict(use) for use in found]))
    else:
        print(table(found, architectures))
    return 1 if any(use.spilled for use in found) else 0


if __name__ == "__main__":
    sys.exit(main())
