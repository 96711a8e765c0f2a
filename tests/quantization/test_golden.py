"""The tables under calib/golden are what the code computes today."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[2] / "calib" / "golden"


def test_ranges() -> None:
    specification = importlib.util.spec_from_file_location("golden", GOLDEN / "make.py")
    assert specification is not None
    assert specification.loader is not None
    golden = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(golden)
    kept = json.loads((GOLDEN / "ranges.json").read_text())
    made = golden.table()
    assert made.keys() == kept.keys()
    for name, schemes in made.items():
        for scheme, methods in schemes.items():
            for method, found in methods.items():
                # Logarithms of different libraries differ in the last bit.
                assert found == pytest.approx(kept[name][scheme][method], rel=1e-6), (name, scheme, method)
