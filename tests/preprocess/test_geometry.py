"""Sizes and anchors against torchvision's, over every size that could round otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tledge.errors import InputError
from tledge.preprocess import Box, Crop, Letterbox
from tledge.preprocess.geometry import Window, window


@settings(deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 600), st.integers(0, 200))
def test_resized_size_is_torchvisions(width: int, height: int, size: int, more: int) -> None:
    functional = pytest.importorskip("torchvision.transforms.functional")
    resized = functional._compute_resized_output_size((height, width), [size + more])
    place = window(Crop(size + more, (size, size)), width, height)
    assert [place.resized_height, place.resized_width] == resized


@settings(deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(0, 15))
def test_anchor_is_torchvisions(width: int, height: int, size: int, more: int) -> None:
    functional = pytest.importorskip("torchvision.transforms.functional")
    torch = pytest.importorskip("torch")
    place = window(Crop(size + more, (size, size)), width, height)
    numbered = torch.arange(place.resized_height * place.resized_width)
    image = numbered.reshape(1, place.resized_height, place.resized_width)
    corner = int(functional.center_crop(image, [size, size])[0, 0, 0])
    assert corner == place.top * place.resized_width + place.left


def test_half_goes_to_even() -> None:
    assert window(Crop(256, (224, 224)), 500, 375).left == 58  # (341 - 224) / 2 = 58.5
    assert window(Crop(256, (223, 223)), 300, 300).left == 16  # 16.5
    assert window(Crop(255, (222, 222)), 255, 257).top == 18  # (257 - 222) / 2 = 17.5


def test_letterbox() -> None:
    assert window(Letterbox((100, 100)), 200, 100) == Window(100, 50, 0, 0, 100, 50, 0, 25)
    assert window(Letterbox((100, 100)), 100, 301) == Window(33, 100, 0, 0, 33, 100, 33, 0)
    assert window(Letterbox((100, 100), anchor="top-left"), 200, 100).pad_top == 0
    assert window(Letterbox((10, 10)), 1, 5000).width == 1


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 300), st.integers(1, 300))
def test_letterbox_fits(width: int, height: int, columns: int, rows: int) -> None:
    place = window(Letterbox((rows, columns)), width, height)
    assert place.width == columns or place.height == rows
    assert 0 <= place.pad_left <= columns - place.width
    assert 0 <= place.pad_top <= rows - place.height


def test_too_large_is_said() -> None:
    with pytest.raises(InputError, match="2097152 x 1"):
        window(Box((5, 5)), 1 << 21, 1)
    with pytest.raises(InputError, match="would be resized"):
        window(Crop(4096, (224, 224)), 1, 1 << 20)
