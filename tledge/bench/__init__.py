"""The bench: how long an answer takes, and whether to believe it."""

from tledge.bench.benchmark import measure, run
from tledge.bench.table import text

__all__ = ["measure", "run", "text"]
