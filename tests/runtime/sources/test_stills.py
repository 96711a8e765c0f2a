from __future__ import annotations

import io
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tledge.errors import InputError
from tledge.runtime.sources import stills
from tledge.runtime.sources.stills import PipedImages


class Drip(io.RawIOBase):
    """A pipe that gives `piece` bytes at a time."""

    def __init__(self, data: bytes, piece: int) -> None:
        self._data, self._piece = io.BytesIO(data), piece

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(size, self._piece))


def image(kind: str, seed: int, **options) -> bytes:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (*random.integers(1, 40, 2), 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def split(data: bytes, piece: int = 1 << 16) -> list[bytes]:
    return [shot.image for shot in PipedImages("pipe", Drip(data[8:], piece), data[:8]).shots()]


kinds = st.sampled_from(
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"quality": 100, "restart_marker_blocks": 1}),
        ("JPEG", {"comment": b"\xff\xd9 is no end here \xff\xd8\xff"}),
        ("PNG", {}),
    ]
)


@given(st.lists(st.tuples(kinds, st.integers(0, 99)), min_size=1, max_size=5), st.integers(1, 4096))
@settings(max_examples=60)
def test_images_one_after_another_are_told_apart(parts, piece):
    images = [image(kind, seed, **options) for (kind, options), seed in parts]
    assert split(b"".join(images), piece) == images


def test_a_thumbnail_in_a_jpeg_is_no_end():
    thumbnail = image("JPEG", 1)
    outer = image("JPEG", 2)
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    nested = outer[:2] + segment + outer[2:]
    assert split(nested + outer) == [nested, outer]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_what_is_cut_off_anywhere_is_one_damaged_image_and_the_end(kind):
    whole = image(kind, 3)
    for size in range(9, len(whole)):
        assert split(whole + whole[:size]) == [whole, whole[:size]]


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_no_bytes_are_lost_whatever_they_are(noise):
    for start in (stills.JPEG, stills.PNG, b"GIF8"):
        with suppress(InputError):  # what follows is no image, or says that it is too large
            assert b"".join(split(start + noise, 7)) == start + noise


def test_another_kind_is_one_image_to_the_end():
    gif = image("GIF", 1)
    assert split(gif) == [gif]
    with pytest.raises(InputError, match="what follows image 0 is no image"):
        split(image("PNG", 1) + b"hello, world")


def test_a_length_beyond_reason_is_refused_before_it_is_read():
    with pytest.raises(InputError, match="more than 256 MiB"):
        split(stills.PNG + b"\xff\xff\xff\xf0IHDR")


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no images in"):
        stills.files(tmp_path)
