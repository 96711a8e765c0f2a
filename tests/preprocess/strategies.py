"""Random specifications and images for the property tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from tledge.preprocess import Box, Crop, Decode, Frames, Letterbox, Spec
from tledge.preprocess.native import FILTERS

SIDE = st.integers(1, 120)
SIZES = st.tuples(SIDE, SIDE)
LEVEL = st.integers(0, 255)
GEOMETRIES = st.one_of(
    st.builds(lambda size, more: Crop(max(size) + more, size), SIZES, st.integers(0, 60)),
    st.builds(
        lambda size, more: Crop((size[0] + more[0], size[1] + more[1]), size),
        SIZES,
        st.tuples(st.integers(0, 40), st.integers(0, 40)),
    ),
    st.builds(Box, SIZES),
    st.builds(Letterbox, SIZES, st.tuples(LEVEL, LEVEL, LEVEL), st.sampled_from(["centre", "top-left"])),
)
COEFFICIENTS = st.tuples(*[st.floats(0.05, 1.0)] * 3)


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    """Draw a specification: any geometry, filter, layout, type, colour order and order of frames."""
    dtype = draw(st.sampled_from(["float32", "float16", "int8", "uint8"]))
    integers = {"scale": draw(st.floats(0.003, 0.1)), "zero_point": draw(st.integers(0, 127))}
    return Spec(
        geometry=draw(GEOMETRIES),
        decode=Decode(colour=draw(st.sampled_from(["rgb", "bgr"]))),
        filter=draw(st.sampled_from(FILTERS)),
        mean=draw(COEFFICIENTS),
        std=draw(COEFFICIENTS),
        layout=draw(st.sampled_from(["NCHW", "NHWC"])),
        dtype=dtype,
        frames=Frames(draw(st.sampled_from(["convert-first", "planes-first"]))),
        **(integers if "int" in dtype else {}),
    )


@st.composite
def images(draw: st.DrawFn, largest: int = 700) -> np.ndarray:
    """Draw an image of 1 to `largest` pixels a side: noise, or black and white; rows packed or not."""
    height, width = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    random = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    room = draw(st.sampled_from([0, 0, 1, 17]))
    pixels = random.integers(0, 256, (height, width + room, 3), np.uint8)
    if draw(st.booleans()):
        pixels = np.where(pixels < 128, np.uint8(0), np.uint8(255))
    return pixels[:, :width]
