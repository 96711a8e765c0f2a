"""The fuzzing program (kernels/fuzz.cpp) builds, finds nothing in its corpus, and runs some seconds more."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

KERNELS = Path(__file__).parents[2] / "kernels"
CORPUS = Path(__file__).parent / "corpus"


def clang() -> str:
    """Return the name of a Clang that has libFuzzer, or skip."""
    for name in ("clang++", *(f"clang++-{version}" for version in range(21, 13, -1))):
        if shutil.which(name) is None:
            continue
        asked = [name, "-print-resource-dir"]
        folder = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
        if any(Path(folder).glob("lib/**/libclang_rt.fuzzer*.a")):
            return name
    pytest.skip("no Clang with libFuzzer (Debian: clang and libclang-rt-dev)")


@pytest.mark.slow
def test_finds_nothing(tmp_path: Path) -> None:
    configure = ["cmake", "-S", KERNELS, "-B", tmp_path, f"-DTLEDGE_OUTPUT={tmp_path}"]
    compiler = clang()
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    subprocess.run([*configure, f"-DCMAKE_CXX_COMPILER={compiler}"], check=True, capture_output=True)
    build = ["cmake", "--build", tmp_path, "--target", "fuzz", "-j2"]
    built = subprocess.run(build, capture_output=True, text=True, check=False)
    if "No rule to make target" in built.stderr or "unknown target" in built.stderr + built.stdout:
        pytest.skip("the fuzzing program compares with libjpeg-turbo, whose development files are missing")
    assert built.returncode == 0, built.stdout + built.stderr
    seeds = sorted(CORPUS.iterdir())
    once = subprocess.run([tmp_path / "fuzz", *seeds], capture_output=True, text=True, check=False)
    assert once.returncode == 0, once.stderr
    assert once.stderr.count("Executed ") == len(seeds)
    found = tmp_path / "found"
    found.mkdir()
    limits = ["-seed=1", "-max_total_time=5", "-max_len=4096", f"-artifact_prefix={tmp_path}/"]
    command = [tmp_path / "fuzz", *limits, found, CORPUS]
    more = subprocess.run(command, capture_output=True, text=True, check=False)
    assert more.returncode == 0, more.stderr
