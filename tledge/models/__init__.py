"""Networks: a backbone with its pretrained weights and preprocessing, and a head for the user's classes."""

from tledge.models.create import adapted, create, is_scratch, names, resized
from tledge.models.network import Network, load, save

__all__ = ["Network", "adapted", "create", "is_scratch", "load", "names", "resized", "save"]
