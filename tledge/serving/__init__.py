"""The HTTP endpoint: image bytes in, the contract's JSON out."""

from tledge.serving.app import application
from tledge.serving.limits import Limits

__all__ = ["Limits", "application"]
