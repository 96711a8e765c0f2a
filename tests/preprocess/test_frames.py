"""Camera formats: the kernels give the reference's bytes, and what a frame does not say is refused."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.preprocess.strategies import specs
from tledge.errors import InputError
from tledge.preprocess import Frames, Spec, native, preprocessor
from tledge.preprocess.frames import FORMATS, YUV, Frame, plane_shapes, to_rgb
from tledge.preprocess.golden import FRAME_CASES, FRAME_SPEC, golden_frames

MEANINGS = ("bt601", "bt709", "bt2020"), ("limited", "full"), ("left", "centre", "top-left")


@st.composite
def frames(draw: st.DrawFn, largest: int = 160) -> Frame:
    """Draw a frame of any format, meaning and size; its planes' rows packed or not."""
    layout = draw(st.sampled_from(FORMATS))
    width, height = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    random = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    room = draw(st.sampled_from([0, 1, 19]))
    planes = tuple(
        random.integers(0, 256, (rows, columns + room), np.uint8)[:, :columns]
        for rows, columns in plane_shapes(layout, width, height)
    )
    meaning = [draw(st.sampled_from(known)) if layout in YUV else None for known in MEANINGS]
    return Frame(layout, width, height, planes, *meaning)


@pytest.mark.parametrize("chosen", list(native.instruction_sets()))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(specs(), frames(), st.integers(1, 3))
def test_reference(
    monkeypatch: pytest.MonkeyPatch, chosen: str, spec: Spec, frame: Frame, threads: int
) -> None:
    monkeypatch.setenv("TLEDGE_INSTRUCTION_SET", chosen)
    kernels, reference = preprocessor(spec, threads=threads), preprocessor(spec, "pillow")
    assert np.array_equal(kernels.pixels(frame), reference.pixels(frame))
    assert kernels(frame).tobytes() == reference(frame).tobytes()
    if spec.frames == Frames() or frame.format not in YUV:
        assert kernels(frame).tobytes() == kernels(to_rgb(frame)).tobytes()


def grey_frame(layout: Any, luma: int, **meaning: Any) -> Frame:
    """Return a frame of one colour without chroma: 6 x 4 pixels."""
    planes = [np.full(shape, 128, np.uint8) for shape in plane_shapes(layout, 6, 4)]
    if layout in ("yuyv", "uyvy"):
        planes[0][:, (0 if layout == "yuyv" else 1) :: 2] = luma
    else:
        planes[0][:] = luma
    return Frame(layout, 6, 4, tuple(planes), **meaning)


@pytest.mark.parametrize("layout", YUV)
@pytest.mark.parametrize("matrix", MEANINGS[0])
def test_black_and_white(layout: str, matrix: str) -> None:
    for range_, black, white in (("limited", 16, 235), ("full", 0, 255)):
        meaning = {"matrix": matrix, "range": range_, "siting": "left"}
        assert (to_rgb(grey_frame(layout, black, **meaning)) == 0).all()
        assert (to_rgb(grey_frame(layout, white, **meaning)) == 255).all()


# The 75 % colour bars' levels of ITU-R BT.801 (BT.601, limited): Y', Cb, Cr of each bar.
@pytest.mark.parametrize(
    ("ycc", "rgb"),
    [
        ((162, 44, 142), (191, 191, 0)),
        ((131, 156, 44), (0, 191, 191)),
        ((112, 72, 58), (0, 191, 0)),
        ((84, 184, 198), (191, 0, 191)),
        ((65, 100, 212), (191, 0, 0)),
        ((35, 212, 114), (0, 0, 191)),
    ],
)
def test_colour_bars(ycc: tuple[int, int, int], rgb: tuple[int, int, int]) -> None:
    planes = tuple(
        np.full(shape, level, np.uint8) for shape, level in zip(plane_shapes("i420", 8, 8), ycc, strict=True)
    )
    frame = Frame("i420", 8, 8, planes, "bt601", "limited", "centre")
    assert np.abs(to_rgb(frame)[4, 4].astype(int) - rgb).max() <= 1


def test_layouts_say_the_same() -> None:
    random = np.random.default_rng(5)
    y, u, v = (random.integers(0, 256, shape, np.uint8) for shape in plane_shapes("i420", 31, 17))
    pairs = np.stack([u, v], axis=2).reshape(9, 32)
    swapped = np.stack([v, u], axis=2).reshape(9, 32)
    meaning: Any = ("bt709", "limited", "left")
    seen = [
        to_rgb(Frame("i420", 31, 17, (y, u, v), *meaning)),
        to_rgb(Frame("nv12", 31, 17, (y, pairs), *meaning)),
        to_rgb(Frame("nv21", 31, 17, (y, swapped), *meaning)),
    ]
    assert np.array_equal(seen[0], seen[1])
    assert np.array_equal(seen[0], seen[2])


@pytest.mark.parametrize(
    ("siting", "expected"), [("left", [100, 150, 200, 200]), ("centre", [100, 125, 175, 200])]
)
def test_chroma_is_interpolated_by_its_siting(siting: Any, expected: list[int]) -> None:
    # With Y' = 0, BT.601 and full range, red is 1.402 (Cr - 128), and tells Cr where it does not clip.
    y = np.full((2, 4), 0, np.uint8)
    frame = Frame(
        "i420",
        4,
        2,
        (y, np.full((1, 2), 128, np.uint8), np.array([[100, 200]], np.uint8)),
        "bt601",
        "full",
        siting,
    )
    red = to_rgb(frame)[0, :, 0].astype(int)
    assert list(red) == [max(0, round(1.402 * (cr - 128))) for cr in expected]


@pytest.mark.parametrize("layout", FORMATS)
def test_pixels_are_packed(layout: Any) -> None:
    shapes = plane_shapes(layout, 640, 480)
    data = bytes(sum(rows * columns for rows, columns in shapes))
    meaning: Any = {"matrix": "bt601", "range": "full", "siting": "left"} if layout in YUV else {}
    assert to_rgb(Frame.packed(data, layout, 640, 480, **meaning)).flags.c_contiguous


def test_packed_bytes() -> None:
    data = bytes(range(24))
    frame = Frame.packed(data, "nv12", 4, 4, matrix="bt601", range="full", siting="centre")
    assert frame.planes[1].tobytes() == data[16:]
    with pytest.raises(InputError, match="23 bytes"):
        Frame.packed(data[:23], "nv12", 4, 4, matrix="bt601", range="full", siting="centre")


@pytest.mark.parametrize("using", ["host", "pillow"])
@pytest.mark.parametrize(("spec", "expected"), FRAME_CASES)
def test_golden(using: str, spec: Spec, expected: str) -> None:
    tensors = [preprocessor(spec, using)(frame).tobytes() for frame in golden_frames()]
    assert hashlib.sha256(b"".join(tensors)).hexdigest() == expected


PLANES = (np.zeros((4, 6), np.uint8), np.zeros((2, 6), np.uint8))
WORDS: Any = {"matrix": "bt601", "range": "full", "siting": "left"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"matrix": None}, "frame.matrix of nv12 is None"),
        ({"range": None}, "frame.range of nv12 is None"),
        ({"siting": None}, "frame.siting of nv12 is None"),
        ({"format": "nv13"}, "nv13"),
        ({"width": 0}, "frame.width"),
        ({"planes": PLANES[:1]}, "1 planes"),
        ({"planes": (PLANES[0], PLANES[1][:1])}, "plane 1"),
        ({"planes": (PLANES[0][:, :5], PLANES[1])}, "plane 0"),
        ({"planes": (PLANES[0][::-1], PLANES[1])}, "strides"),
        ({"planes": (np.zeros((4, 12), np.uint8)[:, ::2], PLANES[1])}, "strides"),
        ({"planes": (PLANES[0].astype(np.uint16), PLANES[1])}, "uint8"),
    ],
)
def test_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Frame(**{"format": "nv12", "width": 6, "height": 4, "planes": PLANES, **WORDS, **change})


def test_a_meaning_without_chroma_is_refused() -> None:
    with pytest.raises(InputError, match="grey has none"):
        Frame("grey", 6, 4, PLANES[:1], matrix="bt601")


def test_a_batch_may_hold_frames_and_images() -> None:
    mixed = [*golden_frames(), np.full((30, 41, 3), 77, np.uint8)]
    to_tensor = preprocessor(FRAME_SPEC, threads=2)
    assert np.array_equal(to_tensor.batch(mixed), np.stack([to_tensor(one) for one in mixed]))
    assert np.array_equal(to_tensor.batch(mixed), preprocessor(FRAME_SPEC, "pillow").batch(mixed))
