"""benchmarks/gpu.py runs as a whole on the stand-in for the driver, and its bits are the host's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cuda import standin

pytestmark = pytest.mark.slow


def test_all_sections_run_on_the_standin(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    environment = standin.environment(tmp_path_factory.mktemp("cuda_driver"), pytestconfig)
    out = tmp_path / "table.md"
    words = ("benchmarks/gpu.py", "--tiny", "--frames", "40", "-o", str(out))
    result = standin.python(environment, *words)
    assert result.returncode == 0, result.stdout + result.stderr
    assert out.read_text() == result.stdout
    assert "failed" not in result.stdout
    assert result.stdout.startswith("stand-in GPU (sm87), 1 GiB, driver of CUDA 13, ")
    compared = re.findall(r"bits? \| (\d+) of (\d+) \||bytes \| (\d+) of (\d+) \|", result.stdout)
    assert len(compared) == 2
    for equal, all_of_them in (filter(None, pair) for pair in compared):
        assert equal == all_of_them
        assert int(equal) >= 18
    assert "GPU memory +0 bytes" in result.stdout
    assert " 0 answers changed" in result.stdout
