"""Running a graph: the backends, and the pipeline from bytes to label."""

from tledge.runtime.backends import available, open_session
from tledge.runtime.session import Session

__all__ = ["Session", "available", "open_session"]
