"""The bench: how long an answer takes, and whether to believe it."""

from tledge.bench.benchmark import run
from tledge.bench.document import stands
from tledge.bench.table import text

__all__ = ["run", "stands", "text"]
