"""INT8 and FP16 variants of a float ONNX network, on a CPU, with no torch."""

from __future__ import annotations

from tledge.quantization.calibrate import CalibrateSettings, calibrate

__all__ = ["CalibrateSettings", "calibrate"]
