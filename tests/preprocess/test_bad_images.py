"""What is no image is refused in words, and never becomes a wrong tensor or a crash."""

from __future__ import annotations

import numpy as np
import pytest

from tledge.errors import InputError
from tledge.preprocess import Box, Preprocessor, Spec, preprocessor
from tledge.preprocess.golden import picture

SPEC = Spec(geometry=Box((20, 30)))


@pytest.fixture(params=["host", "pillow"])
def made(request: pytest.FixtureRequest) -> Preprocessor:
    """Return each preprocessor in turn."""
    return preprocessor(SPEC, request.param)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (picture(9, 9).astype(np.float32), "float32"),
        (picture(9, 9).astype(np.int8), "int8"),
        (picture(9, 9)[:, :, 0], "shape"),
        (np.zeros((9, 9, 4), np.uint8), "shape"),
        (np.zeros((0, 9, 3), np.uint8), "empty"),
        (picture(9, 9)[::-1], "strides"),
        (picture(9, 9)[:, ::-1], "strides"),
        (picture(9, 9)[:, :, ::-1], "strides"),
        (picture(9, 9)[:, ::2], "strides"),
        (picture(9, 9).transpose(1, 0, 2), "strides"),
        (np.broadcast_to(picture(1, 9), (9, 9, 3)), "strides"),
        ([[[1, 2, 3]]], "list"),
        (None, "NoneType"),
        (np.broadcast_to(np.zeros(3, np.uint8), (2, (1 << 20) + 1, 3)), "strides"),
        (np.zeros((1, (1 << 20) + 1, 3), np.uint8), "cannot be resized"),
    ],
)
def test_image(made: Preprocessor, image: object, words: str) -> None:
    for call in (made, made.pixels, lambda bad: made.batch([bad])):
        with pytest.raises(InputError) as caught:
            call(image)
        assert words in caught.value.message
        assert caught.value.hint


def test_rows_may_be_apart(made: Preprocessor) -> None:
    whole = picture(40, 50)
    assert np.array_equal(made(whole[3:30, 5:40]), made(np.ascontiguousarray(whole[3:30, 5:40])))
    assert np.array_equal(made(whole[::2]), made(np.ascontiguousarray(whole[::2])))
    assert np.array_equal(made(whole[7:8]), made(np.ascontiguousarray(whole[7:8])))
    assert np.array_equal(made(whole[:, 7:8]), made(np.ascontiguousarray(whole[:, 7:8])))
    assert np.array_equal(made(whole[::-1][7:8]), made(np.ascontiguousarray(whole[::-1][7:8])))
    frozen = picture(40, 50)
    frozen.flags.writeable = False
    assert np.array_equal(made(frozen), made(whole))


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((3, 20, 31), np.float32),
        np.zeros((3, 20, 30), np.float64),
        np.zeros((3, 30, 20), np.float32).transpose(0, 2, 1),
        np.zeros((6, 20, 30), np.float32)[::2],
    ],
)
def test_out(made: Preprocessor, out: np.ndarray) -> None:
    with pytest.raises(InputError, match="out"):
        made(picture(9, 9), out)


def test_read_only_out(made: Preprocessor) -> None:
    out = np.zeros(SPEC.shape, np.float32)
    out.flags.writeable = False
    with pytest.raises(InputError, match="out"):
        made(picture(9, 9), out)


def test_normalise(made: Preprocessor) -> None:
    with pytest.raises(InputError, match="float32"):
        made.normalise(np.zeros((4, 4, 3), np.float32))
    with pytest.raises(InputError, match="shape"):
        made.normalise(np.zeros((4, 4), np.uint8))
    assert made.normalise(np.zeros((0, 4, 4, 3), np.uint8)).shape == (0, 3, 4, 4)
    mirrored = picture(6, 7)[:, ::-1]
    assert np.array_equal(made.normalise(mirrored), made.normalise(mirrored.copy()))


def test_threads() -> None:
    with pytest.raises(InputError, match="threads"):
        preprocessor(SPEC, threads=0)
