"""Running a graph: the backends, and the pipeline from bytes to label."""

from tledge.runtime.backends import available, open_session
from tledge.runtime.model import Guess, Model, Prediction, load, open_model
from tledge.runtime.session import Session

__all__ = ["Guess", "Model", "Prediction", "Session", "available", "load", "open_model", "open_session"]
