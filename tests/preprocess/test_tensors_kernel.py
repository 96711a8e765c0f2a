"""The GPU's preprocessing kernel: the host's bytes on an emulated grid, and no spilled registers."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tledge.preprocess import native

KERNELS = Path(__file__).parents[2] / "kernels"
PROGRAM = Path(__file__).with_name("tensors_on_grid.cpp")


def test_a_grid_gives_the_bytes_of_the_host(tmp_path: Path) -> None:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("c++ is not installed")
    program, library = tmp_path / "grid", native.LIBRARY
    options = ["-O2", "-std=c++17", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", f"-I{KERNELS}"]
    sources = ["-x", "c++", PROGRAM, KERNELS / "axis.cpp", "-x", "none", library]
    subprocess.run([compiler, *options, "-o", program, *sources, f"-Wl,-rpath,{library.parent}"], check=True)
    result = subprocess.run([program, "150"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, "a tensor differs" if result.returncode == 1 else "the library refuses"
    compared, overflowed = map(int, result.stdout.split())
    assert compared >= 150
    assert overflowed > 100, "the way past shared memory was hardly taken"


@pytest.mark.parametrize("architecture", ["sm_87", "sm_90", "sm_110", "sm_120"])
def test_no_register_is_spilled(architecture: str, tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not installed")
    command = [nvcc, "-cubin", "-std=c++17", "-fmad=false", f"-arch={architecture}", "-Xptxas", "-v"]
    out = tmp_path / "tensors.cubin"
    said = subprocess.run(
        [*command, "-o", out, KERNELS / "tensors.cu"], check=True, capture_output=True, text=True
    ).stderr
    assert re.findall(r"(\d+) bytes spill (?:stores|loads)", said) == ["0", "0"]
