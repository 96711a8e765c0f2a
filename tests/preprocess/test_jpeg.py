"""JPEG straight to the tensor: the bits of a full decode, or nothing."""

from __future__ import annotations

import dataclasses
import io
import shutil
import struct
import subprocess
import time
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.data.images import many_scans
from tledge.data import decode
from tledge.preprocess import Box, Crop, Decode, Spec, native, preprocessor
from tledge.preprocess.geometry import window
from tledge.preprocess.golden import picture

pytestmark = pytest.mark.skipif(
    not native.library().tledge_jpeg_available(), reason="the kernels were built without libjpeg-turbo"
)


def photograph(height: int, width: int, mode: str = "RGB") -> Image.Image:
    """Return noise smoothed to something that a JPEG encoder meets in life."""
    small = Image.fromarray(picture(height // 6 + 1, width // 6 + 1))
    return small.resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def encoded(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def whole(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@st.composite
def files(draw: st.DrawFn, longest: int) -> bytes:
    """Return a JPEG file of any size up to `longest` a side, colour or grey, in any of Pillow's forms."""
    mode = draw(st.sampled_from(["RGB", "RGB", "L"]))
    options = {"subsampling": draw(st.sampled_from([0, 1, 2]))} if mode == "RGB" else {}
    return encoded(
        photograph(draw(st.integers(1, longest)), draw(st.integers(1, longest)), mode),
        quality=draw(st.integers(25, 98)),
        progressive=draw(st.booleans()),
        restart_marker_rows=draw(st.integers(0, 3)),
        **options,
    )


@settings(max_examples=200, deadline=None)
@given(files(longest=400), st.integers(1, 200), st.floats(0.05, 1))
def test_full_decode(data: bytes, resize: int, part: float) -> None:
    side = max(1, int(part * resize))
    kernels = preprocessor(Spec(geometry=Crop(resize, (side, resize))))
    assert np.array_equal(kernels.jpeg(data), kernels(whole(data)))


@pytest.mark.parametrize("sampling", ["1x1", "2x1", "1x2", "2x2", "4x1", "1x4", "4x2", "2x4", "3x1"])
@pytest.mark.parametrize("scans", [[], ["-progressive"], ["-restart", "1"], ["-rgb"], ["-optimize"]])
def test_every_subsampling(tmp_path: Path, sampling: str, scans: list[str]) -> None:
    if shutil.which("cjpeg") is None:
        pytest.skip("cjpeg is not installed")
    photograph(203, 317).save(tmp_path / "image.ppm")
    command = ["cjpeg", "-quality", "80", "-sample", sampling, *scans, tmp_path / "image.ppm"]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    for resize, size in ((256, (224, 224)), (160, (20, 31)), (64, (64, 64)), (90, (2, 80))):
        kernels = preprocessor(Spec(geometry=Crop(resize, size)))
        assert np.array_equal(kernels.jpeg(data), kernels(whole(data)))


@pytest.mark.skipif(shutil.which("cjpeg") is None, reason="cjpeg is not installed")
@settings(max_examples=150, deadline=None)
@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    factors=st.sampled_from(["1x1", "2x1", "1x2", "2x2", "4x1", "1x4", "4x2", "2x4", "3x1", "1x3", "3x2"]),
    scans=st.sampled_from([[], ["-progressive"], ["-optimize"], ["-rgb"], ["-grayscale"]]),
    restart=st.sampled_from([[], ["-restart", "1"], ["-restart", "3B"], ["-restart", "1B"]]),
    quality=st.integers(5, 100),
    jpeg=st.sampled_from(["exact", "fast"]),
    resize=st.integers(1, 150),
    part=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_window_of_anything_that_cjpeg_writes(
    size: tuple[int, int],
    factors: str,
    scans: list[str],
    restart: list[str],
    quality: int,
    jpeg: Literal["exact", "fast"],
    resize: int,
    part: tuple[float, float],
) -> None:
    ppm = io.BytesIO()
    photograph(*size).save(ppm, "PPM")
    command = ["cjpeg", "-quality", str(quality), "-sample", factors, *scans, *restart]
    data = subprocess.run(command, input=ppm.getvalue(), check=True, capture_output=True).stdout
    crop = max(1, round(resize * part[0])), max(1, round(resize * part[1]))
    spec = Spec(Crop(resize, crop), Decode(jpeg=jpeg))
    kernels = preprocessor(spec)
    expected = drafted(data, spec) if jpeg == "fast" else whole(data)
    assert np.array_equal(kernels.jpeg(data), kernels(expected))


@pytest.mark.parametrize("transform", [0, 1, 2])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_adobes_marker(transform: int, mode: str) -> None:
    """It says whether three components are RGB or YCbCr; the kernels believe it as Pillow does."""
    plain = encoded(photograph(70, 90, mode))
    marker = b"\xff\xee" + struct.pack(">H5sHHHB", 14, b"Adobe", 100, 0, 0, transform)
    data = plain.replace(plain[2 : 4 + int.from_bytes(plain[4:6], "big")], marker, 1)  # in JFIF's place
    assert marker in data
    kernels = preprocessor(Spec(geometry=Crop(48, (40, 40))))
    # Of the value 2 on three components the decoder warns, so that Pillow decodes it.
    assert (kernels.jpeg(data) is None) == (mode == "RGB" and transform == 2)
    assert np.array_equal(decode.tensor(data, kernels), kernels(whole(data)))
    as_rgb = np.array_equal(whole(data), whole(plain)) is False
    assert as_rgb == (mode == "RGB" and transform == 0)


@pytest.mark.parametrize("size", [(1, 65500), (65500, 1), (3, 65500), (65500, 2)])
def test_the_longest_side_that_libjpeg_writes(size: tuple[int, int]) -> None:
    data = encoded(Image.fromarray(picture(*size)), quality=80)
    for geometry in (Box((31, 47)), Crop(32, (32, 16))):
        kernels = preprocessor(Spec(geometry=geometry))
        assert np.array_equal(kernels.jpeg(data), kernels(whole(data)))


def test_real_photographs(shared_data: Path) -> None:
    kernels = preprocessor(Spec())
    for file in sorted(shared_data.glob("imagenet_sample/**/*.jp*g"))[::40]:
        data = file.read_bytes()
        tensor = kernels.jpeg(data)
        assert tensor is None or np.array_equal(tensor, kernels(whole(data)))


def drafted(data: bytes, spec: Spec) -> np.ndarray:
    """Return what Pillow decodes at the size of its `thumbnail`, whose draft has the gap that "fast" has."""
    opened = Image.open(io.BytesIO(data))
    place = window(spec.geometry, *opened.size)
    opened.draft(None, (2 * place.resized_width, 2 * place.resized_height))
    return np.asarray(opened.convert("RGB"))


@settings(max_examples=200, deadline=None)
@given(files(longest=900), st.integers(1, 100), st.floats(0.05, 1))
def test_fast_is_a_draft_by_pillow(data: bytes, resize: int, part: float) -> None:
    side = max(1, int(part * resize))
    spec = Spec(Crop(resize, (side, resize)), Decode(jpeg="fast"))
    kernels = preprocessor(spec)
    expected = kernels(drafted(data, spec))
    assert np.array_equal(kernels.jpeg(data), expected)
    assert np.array_equal(kernels(decode.image(data, spec=spec)), expected)


@pytest.mark.parametrize("sampling", ["1x1", "2x1", "1x2", "2x2", "4x1", "1x4", "4x2", "2x4", "3x1"])
@pytest.mark.parametrize("scans", [[], ["-progressive"], ["-restart", "1"], ["-rgb"]])
def test_fast_of_every_subsampling(tmp_path: Path, sampling: str, scans: list[str]) -> None:
    if shutil.which("cjpeg") is None:
        pytest.skip("cjpeg is not installed")
    photograph(613, 857).save(tmp_path / "image.ppm")
    command = ["cjpeg", "-quality", "80", "-sample", sampling, *scans, tmp_path / "image.ppm"]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    for resize, size in ((153, (120, 153)), (76, (20, 31)), (38, (38, 38)), (90, (2, 80)), (30, (1, 30))):
        spec = Spec(Crop(resize, size), Decode(jpeg="fast"))
        kernels = preprocessor(spec)
        assert np.array_equal(kernels.jpeg(data), kernels(drafted(data, spec)))


def test_fast_of_a_turned_image() -> None:
    """Turned images are decoded by Pillow, at the scale that their upright size asks for."""
    stored = photograph(400, 800)
    spec = Spec(Box((200, 50)), Decode(jpeg="fast"))
    kernels = preprocessor(spec)
    data = encoded(stored, exif=exif(6))
    assert decode.image(data, spec=spec).shape == (400, 200, 3)
    assert kernels.jpeg(data) is None
    assert decode.image(encoded(stored), spec=spec).shape == (400, 800, 3)
    ignored = dataclasses.replace(spec, decode=Decode(jpeg="fast", exif=False))
    assert decode.image(data, spec=ignored).shape == (400, 800, 3)


def exif(orientation: int, order: str = "<") -> bytes:
    head = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0" + head + struct.pack(order + "IH", 8, 1) + entry + bytes(4)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_images_are_left_alone(orientation: int, order: str) -> None:
    data = encoded(photograph(60, 80), exif=exif(orientation, order))
    geometry = Box((20, 20))
    assert (preprocessor(Spec(geometry=geometry)).jpeg(data) is not None) == (orientation == 1)
    assert preprocessor(Spec(geometry=geometry, decode=Decode(exif=False))).jpeg(data) is not None


def test_others_are_left_alone() -> None:
    kernels = preprocessor(Spec(geometry=Crop(48, (32, 32))))
    image = photograph(90, 120)
    data = encoded(image, quality=90)
    png = io.BytesIO()
    image.save(png, "PNG")
    others = {
        "empty": b"",
        "png": png.getvalue(),
        "cmyk": encoded(image.convert("CMYK")),
        "truncated": data[: len(data) // 2],
        "end cut off": data[:-2],
        "header only": data[:200] + b"\xff\xd9",
        "progressive, scans cut off": encoded(image, progressive=True)[:1500] + b"\xff\xd9",
        "exif that is damaged": encoded(image, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
        "12 bit": data.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"),
        "no height": data.replace(b"\xff\xc0\x00\x11\x08\x00\x5a", b"\xff\xc0\x00\x11\x08\x00\x00"),
        "101 megapixels": data.replace(b"\x08\x00\x5a\x00\x78", b"\x08\x27\x74\x27\x74"),
    }
    for name, each in others.items():
        assert kernels.jpeg(each) is None, name
    assert preprocessor(kernels.spec, "pillow").jpeg(data) is None


def test_more_than_500_scans_are_left_alone() -> None:
    kernels = preprocessor(Spec(geometry=Box((20, 20))))
    good = many_scans(7)
    assert good.count(b"\xff\xda") == 448
    assert np.array_equal(kernels.jpeg(good), kernels(whole(good)))
    assert kernels.jpeg(many_scans(8)) is None


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_damage_never_gives_another_tensor(data: st.DataObject) -> None:
    """A byte changed anywhere: the bits of Pillow's decode of the same bytes, or nothing."""
    good = bytearray(encoded(photograph(64, 72), quality=85, progressive=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(2, len(good) - 3))] = data.draw(st.integers(0, 255))
    kernels = preprocessor(Spec(geometry=Crop(48, (32, 40)), decode=Decode(exif=False)))
    tensor = kernels.jpeg(bytes(good))
    if tensor is None:
        return
    try:
        expected = kernels(whole(bytes(good)))
    except Exception:  # Pillow reads on to the end, and may find damage below the crop
        return
    assert np.array_equal(tensor, expected)


def test_decoding_and_resampling_are_told_apart() -> None:
    kernels = preprocessor(Spec(geometry=Box(size=(64, 64))))
    data = encoded(photograph(300, 400))
    stamps: list[int] = []
    started = time.perf_counter_ns()
    tensor = kernels.jpeg(data, stamps=stamps)
    ended = time.perf_counter_ns()
    (decoded,) = stamps
    assert started < decoded < ended
    assert np.array_equal(tensor, kernels.jpeg(data))
    assert kernels.jpeg(b"no JPEG", stamps=stamps) is None
    assert stamps == [decoded]
