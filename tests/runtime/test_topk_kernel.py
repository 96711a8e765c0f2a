"""The GPU's top-k kernel: the bits of the host's twin on an emulated block."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tledge.preprocess import native

ROOT = Path(__file__).parents[2]
INCLUDE = [f"-I{ROOT / 'kernels'}", f"-I{ROOT / 'tests' / 'standins' / 'cuda_driver'}"]
PROGRAM = Path(__file__).with_name("topk_on_grid.cpp")


@pytest.mark.parametrize("optimised", ["-O1", "-O3"])
def test_a_block_gives_the_bits_of_the_host(optimised: str, tmp_path: Path) -> None:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("c++ is not installed")
    program, library = tmp_path / "block", native.LIBRARY
    options = [optimised, "-std=c++17", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", *INCLUDE]
    sources = ["-x", "c++", PROGRAM, "-x", "none", library]
    subprocess.run([compiler, *options, "-o", program, *sources, f"-Wl,-rpath,{library.parent}"], check=True)
    result = subprocess.run([program, "250"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, "an answer differs"
    compared, without = map(int, result.stdout.split())
    assert compared > 500
    assert without > 30, "hardly a row without a softmax was drawn"
