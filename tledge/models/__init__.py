"""Networks: a backbone with its pretrained weights and preprocessing, and a head for the user's classes."""

from tledge.models.create import create, is_scratch, names, with_classes
from tledge.models.network import Network, load, save

__all__ = ["Network", "create", "is_scratch", "load", "names", "save", "with_classes"]
