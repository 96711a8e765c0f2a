"""From torch to ONNX, and the proof that both give the same answers."""

from tledge.export.onnx import to_onnx
from tledge.export.parity import compare, parity

__all__ = ["compare", "parity", "to_onnx"]
