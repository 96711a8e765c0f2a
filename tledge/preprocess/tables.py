"""Normalisation as a table of 256 entries a channel, so that its value is the same on every device."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tledge.preprocess.spec import INTEGER_RANGES, Spec

# The red, green and blue planes of an image, in the order in which the tensor has them.
CHANNELS = {"rgb": (0, 1, 2), "bgr": (2, 1, 0)}


def lines(spec: Spec) -> npt.NDArray[np.float64]:
    """Return slope and offset of each channel's normalisation, 3 x 2: its table, but for the rounding."""
    mean, std = np.array(spec.mean), np.array(spec.std)
    return np.stack([1.0 / (255.0 * std), -mean / std], axis=1)


def normalisation(spec: Spec) -> npt.NDArray[np.generic]:
    """Return what each channel value becomes: 3 x 256, of the spec's dtype, first index the tensor's channel.

    (v / 255 - mean) / std in float64, rounded once to float32 or float16 (half to even); for int8 and uint8
    divided by scale in float64, rounded half to even, zero_point added, saturated.
    """
    levels = np.arange(256, dtype=np.float64) / 255.0
    mean, std = np.array(spec.mean)[:, None], np.array(spec.std)[:, None]
    exact = (levels[None, :] - mean) / std
    if spec.dtype in INTEGER_RANGES:
        steps = np.rint(exact / spec.scale) + spec.zero_point
        table: npt.NDArray[np.generic] = np.clip(steps, *INTEGER_RANGES[spec.dtype]).astype(spec.dtype)
        return table
    # A value beyond the range of float16 becomes infinite, as everywhere in float16 arithmetic.
    with np.errstate(over="ignore"):
        rounded: npt.NDArray[np.generic] = exact.astype(spec.dtype)
        return rounded
