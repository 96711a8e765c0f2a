"""Golden bytes of preprocessing: an image, specifications, and the hash of the reference's tensors."""

from __future__ import annotations

import numpy as np

from tledge.preprocess.frames import FORMATS, YUV, Frame, plane_shapes
from tledge.preprocess.images import Pixels
from tledge.preprocess.spec import Box, Crop, Decode, Letterbox, Spec

# Each filter once, and the geometries, layouts, types and channel orders among them.
CASES = (
    Spec(Box((40, 56)), filter="nearest", dtype="float16"),
    Spec(Crop(64, (56, 56)), Decode(colour="bgr"), filter="box", layout="NHWC"),
    Spec(Crop(64, (56, 56)), filter="bilinear"),
    Spec(Letterbox((64, 64)), filter="hamming", dtype="uint8", scale=0.01, zero_point=100),
    Spec(Box((200, 150)), filter="bicubic"),
    Spec(Crop(48, (48, 48)), filter="lanczos", dtype="int8", scale=0.02, zero_point=0),
)
# SHA-256 of the tensors of CASES for picture(131, 197), one after the other, by the Pillow reference.
GOLDEN = "9fd4ae0db1b4123489c8c0ab57844fce99675a5731674a619d418eec8436c0ac"

# The same of golden_frames(): converted first, and with their planes resized first.
FRAME_SPEC = Spec(Box((20, 30)))
FRAME_CASES = (
    (FRAME_SPEC, "da4bf58993a83b5cfd410337be5b00946f9b161fb4a7a6c64671388c3375983e"),
    (
        FRAME_SPEC.with_frames("planes-first"),
        "a0ccc0716250f157da04f323a4bf2c1937ff5af18ce3b01baa360de30df42c40",
    ),
)


def picture(height: int, width: int) -> Pixels:
    """Return a noisy image that is the same on every machine: uint8, height x width x 3."""
    numbers = np.arange(height * width * 3, dtype=np.uint32)
    mixed = (numbers * np.uint32(2654435761)) ^ (numbers >> np.uint32(3)) * np.uint32(40503)
    noise: Pixels = (mixed >> np.uint32(13)).astype(np.uint8)
    return noise.reshape(height, width, 3)


def golden_frames() -> list[Frame]:
    """Return a frame of each camera format, 37 x 23 pixels; the Y'CbCr ones are BT.709, limited, left."""
    frames = []
    for layout in FORMATS:
        size = sum(rows * columns for rows, columns in plane_shapes(layout, 37, 23))
        data = bytes((7 * i * i + 11 * i) % 251 for i in range(size))
        if layout in YUV:
            frames.append(Frame.packed(data, layout, 37, 23, matrix="bt709", range="limited", siting="left"))
        else:
            frames.append(Frame.packed(data, layout, 37, 23))
    return frames
