"""`--time`: how much of the time that a run may take is used."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

from tledge.errors import UsageError


class OutOfTime(Exception):
    """The time is over in the middle of an epoch."""


@dataclass
class Clock:
    """How much of the time that a run may take is used, over all of its processes.

    Attributes:
        limit: seconds; infinite without `--time`.
        reserve: seconds of it that the end takes.
        before: seconds that earlier processes used, as far as their checkpoints know.
        probe: whether there is a network worth having before the first epoch.
        cut: whether epochs were left out because the time was over.
    """

    limit: float = math.inf
    reserve: float = 0.0
    before: float = 0.0
    probe: bool = True
    cut: bool = False
    started: float = field(default_factory=time.monotonic)

    @property
    def used(self) -> float:
        """Return the seconds used."""
        return self.before + time.monotonic() - self.started

    @property
    def left(self) -> float:
        """Return the seconds that the epochs still have."""
        return self.limit - self.reserve - self.used

    def recall(self, plan: dict[str, Any] | None) -> None:
        """Go on from a plan that was made: by this process, or by one that was stopped after it."""
        if plan is not None:
            self.reserve, self.probe = plan["reserve"], plan["probe"]
            self.before = max(self.before, plan["used"] - (time.monotonic() - self.started))

    def check(self) -> None:
        """Raise OutOfTime where the epochs have no time left."""
        if self.left <= 0:
            raise OutOfTime


def seconds(text: str) -> float:
    """Return a time such as 90s, 10m or 1.5h in seconds; a number alone is of seconds.

    Raises:
        UsageError: it is none, or not above 0.
    """
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    try:
        found = float(number) * unit
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise UsageError(f"{text!r} is no time", hint="Give 90s, 10m or 1.5h.")
    return found
