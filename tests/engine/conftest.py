"""What the builder's tests need: TensorRT for RTX, which builds real engines on a machine without a GPU."""

from __future__ import annotations

import pytest

from tledge.errors import MachineError
from tledge.runtime.tensorrt_library import Library, load


@pytest.fixture(scope="session")
def rtx() -> Library:
    """Return TensorRT for RTX, or skip."""
    try:
        return load("tensorrt-rtx")
    except MachineError as error:
        pytest.skip(f"{error}: {error.hint}")
