"""Fixtures that several parts of the tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real images and weights beside the checkout; skip where it is missing."""
    folder = Path(os.environ.get("TLEDGE_SHARED", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder} (set TLEDGE_SHARED)")
    return folder
