"""What makes a bench run short in a test that is about something else."""

from __future__ import annotations

from typing import Any

import pytest

from tledge.bench import benchmark, cold, load


def no_cold_start(*args: Any, **options: Any) -> cold.ColdStart:
    """Stand in for fresh processes."""
    return cold.ColdStart(5.0, dict.fromkeys(cold.PARTS, 1.0), 50.0)


def make(patch: pytest.MonkeyPatch) -> None:
    """Shorten the noise test, start no fresh process, and make every query even where the machine is busy."""
    patch.setattr(load, "LONGEST", 1000)
    patch.setattr(benchmark, "NOISE_SECONDS", 0.02)
    patch.setattr(benchmark, "LEAST_NOISE_SECONDS", 0.02)
    patch.setattr(cold, "measure", no_cold_start)
