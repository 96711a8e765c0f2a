"""The HTTP endpoint: image bytes in, the contract's JSON out."""

from tledge.serving.app import Limits, application

__all__ = ["Limits", "application"]
