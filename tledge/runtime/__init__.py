"""Running a graph: the backends, and the pipeline from bytes to label."""

from tledge.runtime.backends import available, open_session
from tledge.runtime.model import Model, load, open_model
from tledge.runtime.prediction import Guess, Prediction
from tledge.runtime.session import Session

__all__ = ["Guess", "Model", "Prediction", "Session", "available", "load", "open_model", "open_session"]
