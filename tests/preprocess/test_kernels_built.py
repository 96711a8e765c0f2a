"""The kernels as a program: built here and for arm64, run (under qemu there), against golden hashes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tledge.preprocess import native

KERNELS = Path(__file__).parents[2] / "kernels"
TOOLCHAINS = {
    "native": ([], []),
    "arm64": (
        [
            "-DCMAKE_SYSTEM_NAME=Linux",
            "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
            "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++",
        ],
        ["qemu-aarch64-static", "-cpu", "max", "-L", "/usr/aarch64-linux-gnu"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("machine", TOOLCHAINS)
def test_golden_program(machine: str, tmp_path: Path) -> None:
    options, runner = TOOLCHAINS[machine]
    compiler = "aarch64-linux-gnu-g++" if machine == "arm64" else "c++"
    for tool in ("cmake", compiler, *runner[:1]):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    configure = ["cmake", "-S", KERNELS, "-B", tmp_path, f"-DTLEDGE_OUTPUT={tmp_path}", *options]
    subprocess.run(configure, check=True, capture_output=True)
    build = ["cmake", "--build", tmp_path, "--target", "golden", "tledge_kernels", "-j2"]
    subprocess.run(build, check=True, capture_output=True)
    printed = subprocess.run(
        [*runner, tmp_path / "golden"], check=True, capture_output=True, text=True
    ).stdout
    by_set: dict[str, list[str]] = {}
    for line in printed.splitlines():
        name, case = line.split(" ", 1)
        by_set.setdefault(name, []).append(case)
    golden = (KERNELS / "golden.txt").read_text().splitlines()
    best = by_set.pop("topk")
    assert "scalar" in by_set
    assert machine != "arm64" or "neon-dotprod" in by_set
    assert all([*cases, *(f"topk {line}" for line in best)] == golden for cases in by_set.values())
    subprocess.run(["cmake", "--install", tmp_path, "--prefix", tmp_path / "wheel"], check=True)
    shipped = {path.name for path in (tmp_path / "wheel" / "tledge" / "_lib" / "kernels").iterdir()}
    assert {"tensors.cu", "source.h", "colour.h", "lines.h"} <= shipped, "the GPU's are compiled there"


def test_loads_on_jetpack_6() -> None:
    """No symbol newer than Ubuntu 22.04's C library, and no library beside it but libjpeg."""
    if shutil.which("objdump") is None:
        pytest.skip("objdump is not installed")
    dump = ["objdump", "-p", "-T", native.LIBRARY]
    text = subprocess.run(dump, check=True, capture_output=True, text=True).stdout
    versions = [tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([0-9.]+)", text)]
    assert max(versions) <= (2, 35)
    needed = set(re.findall(r"NEEDED\s+(\S+)", text))
    assert all(name.startswith(("libc.", "libm.", "ld-linux", "libjpeg.")) for name in needed)
