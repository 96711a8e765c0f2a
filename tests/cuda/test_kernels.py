"""Every CUDA kernel compiles for every GPU that we name, by each compiler that is here, without spills."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tledge.cuda.compiler import compilers

ROOT = Path(__file__).parents[2]
NAMES = re.findall(
    r"extern \"C\" __global__ void (?:__launch_bounds__\(.*\)\s+)?(\w+)\(",
    "".join(source.read_text() for source in (ROOT / "kernels").glob("*.cu")),
)
WHEELS = {"nvidia-cuda-nvrtc-cu12": 12, "nvidia-cuda-nvrtc": 13}  # of PyPI, and the CUDA they are of
KNOWN = {12: {"sm87", "sm90"}, 13: {"sm87", "sm90", "sm110", "sm120"}}


@pytest.mark.parametrize("wheel", WHEELS)
def test_a_compiler_from_pypi_is_found(wheel: str) -> None:
    try:
        metadata.version(wheel)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{wheel} is not installed")
    assert ("nvrtc", WHEELS[wheel]) in {(one.kind, one.numbers[0]) for one in compilers()}


@pytest.mark.slow
def test_kernels_compile_without_spills() -> None:
    if not compilers():
        pytest.skip("neither nvcc nor NVRTC is installed")
    script = [sys.executable, str(ROOT / "benchmarks" / "kernels.py"), "--json"]
    result = subprocess.run(script, capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    uses = json.loads(result.stdout)
    assert len(NAMES) >= 3
    for compiler in compilers():
        mine = [use for use in uses if use["compiler"] == f"{compiler.kind} {compiler.release}"]
        expected = {(name, gpu) for name in NAMES for gpu in KNOWN[min(compiler.numbers[0], 13)]}
        assert expected <= {(use["kernel"], use["architecture"]) for use in mine}, compiler
    assert all(use["spilled"] == 0 and 0 < use["registers"] <= 255 for use in uses)
