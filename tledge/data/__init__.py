"""Finding, auditing, splitting and decoding images."""

from tledge.data.dataset import Dataset, Sample, sample_at
from tledge.data.finding import find
from tledge.data.names import image_files

__all__ = ["Dataset", "Sample", "find", "image_files", "sample_at"]
