"""Every kind of image becomes RGB by the written rule, or is refused with its name."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, features

from tests.data.images import encode, exif, many_scans, outcome, photo, png_header
from tledge.data import decode
from tledge.data.ahead import ordered
from tledge.data.exif import orientation
from tledge.errors import InputError
from tledge.preprocess import Decode, Spec, preprocessor

# What Pillow says of damaged metadata; see the fuzz test.
PILLOW_WARNS = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

LOSSLESS = ["PNG", "BMP", "TIFF", "PPM", "GIF"]
KINDS = ["JPEG", "WebP", *LOSSLESS] + (["AVIF"] if features.check("avif") else [])


def same(data: bytes, expected: np.ndarray) -> None:
    found = decode.image(data, name="x")
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_colour_comes_back_exactly(kind: str) -> None:
    same(encode(photo(), kind), photo())


@pytest.mark.parametrize("kind", KINDS)
def test_a_grey_or_colour_file_is_what_pillow_reads(kind: str) -> None:
    for mode in ("RGB", "L"):
        data = encode(Image.fromarray(photo()).convert(mode), kind)
        same(data, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP"])
@pytest.mark.parametrize("turned", range(1, 9))
def test_all_eight_orientations(turned: int, kind: str, order: str) -> None:
    pixels = photo(24, 16)
    data = encode(pixels, kind, exif=exif(turned, order))
    with Image.open(io.BytesIO(data)) as opened:
        same(data, np.asarray(ImageOps.exif_transpose(opened).convert("RGB")))
    stored = decode.image(data, spec=Spec(decode=Decode(exif=False)))
    assert stored.shape == pixels.shape
    with Image.open(io.BytesIO(data)) as opened:
        np.testing.assert_array_equal(decode.pil(opened), decode.image(data))


def test_an_orientation_in_tiff_belongs_to_the_format() -> None:
    pixels = photo(24, 16)
    same(encode(pixels, "TIFF", tiffinfo={274: 6}), np.rot90(pixels, -1))


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
def test_an_orientation_beyond_eight_turns_nothing(value: int) -> None:
    assert orientation(exif(value)) == 1


@given(st.binary(max_size=80))
def test_a_damaged_exif_block_is_upright(tail: bytes) -> None:
    assert 1 <= orientation(tail) <= 8
    assert 1 <= orientation(b"Exif\0\0II*\0" + tail) <= 8


def test_an_orientation_after_a_cut_is_upright() -> None:
    block = exif(6)
    found = [orientation(block[:length]) for length in range(len(block) + 1)]
    assert set(found) == {1, 6}


def test_one_bit_is_black_and_white() -> None:
    bits = photo()[..., 0] > 127
    same(encode(Image.fromarray(bits)), np.repeat(bits[..., None] * np.uint8(255), 3, axis=2))


def test_a_palette_gives_its_colours() -> None:
    image = Image.fromarray(photo()).quantize(16)
    for kind in ("PNG", "GIF", "BMP", "TIFF"):
        same(encode(image, kind), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("widen", [lambda v: v << 8, lambda v: v * 257])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_keeps_its_high_byte(kind: str, widen: object) -> None:
    grey = photo()[..., 0]
    data = encode(widen(grey.astype(np.uint16)), kind)  # type: ignore[operator]
    same(data, np.repeat(grey[..., None], 3, axis=2))


def test_sixteen_bit_grey_is_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    assert len(np.unique(decode.image(encode(ramp)))) == 256


def test_integers_beyond_sixteen_bits_are_refused() -> None:
    for value in (65536, -1):
        data = encode(Image.fromarray(np.full((2, 2), value, np.int32)), "TIFF")
        with pytest.raises(InputError, match="beyond 16 bits"):
            decode.image(data, name="deep.tif")


def test_floating_point_is_refused() -> None:
    with pytest.raises(InputError, match=r"f\.tif holds floating-point"):
        decode.image(encode(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF"), name="f.tif")


def over_white(rgba: np.ndarray) -> np.ndarray:
    wide = rgba.astype(int)
    return ((wide[..., :3] * wide[..., 3:] + 255 * (255 - wide[..., 3:]) + 127) // 255).astype(np.uint8)


def some_alpha() -> np.ndarray:
    return np.dstack([photo(), photo(seed=1)[..., 0]])


def test_alpha_is_composited_over_white() -> None:
    rgba = some_alpha()
    for kind in ("PNG", "TIFF"):
        same(encode(Image.fromarray(rgba), kind), over_white(rgba))
    # Alpha at its ends is exact: opaque keeps the colour, transparent is white whatever lies under it.
    rgba[..., 3] = np.where(photo(seed=2)[..., 0] > 127, 255, 0)
    found = decode.image(encode(Image.fromarray(rgba)))
    np.testing.assert_array_equal(found[rgba[..., 3] == 255], rgba[rgba[..., 3] == 255][:, :3])
    assert (found[rgba[..., 3] == 0] == 255).all()


def test_grey_with_alpha_is_composited_over_white() -> None:
    grey = Image.fromarray(some_alpha()).convert("LA")
    same(encode(grey), over_white(np.asarray(grey.convert("RGBA"))))


def test_a_key_colour_and_a_transparent_palette_entry_are_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    for kind in ("PNG", "GIF"):
        same(encode(image, kind, transparency=0), np.array([[[255, 255, 255], [40, 50, 60]]], np.uint8))
    same(
        encode(image, transparency=b"\x80\xff"),
        over_white(np.array([[[10, 20, 30, 128], [40, 50, 60, 255]]])),
    )
    colour = Image.new("RGB", (2, 1), (1, 2, 3))
    colour.putpixel((1, 0), (1, 2, 4))
    same(encode(colour, transparency=(1, 2, 3)), np.array([[[255, 255, 255], [1, 2, 4]]], np.uint8))


def test_premultiplied_alpha() -> None:
    rgba = Image.fromarray(some_alpha())
    found = decode.pil(rgba.convert("RGBa"))
    np.testing.assert_array_equal(found, over_white(np.asarray(rgba.convert("RGBa").convert("RGBA"))))
    assert decode.pil(Image.new("La", (2, 2))).shape == (2, 2, 3)


def test_cmyk_tiff_and_adobe_jpeg_give_the_same_colours() -> None:
    cmyk = Image.fromarray(photo()).convert("CMYK")
    inks = np.asarray(cmyk).astype(int)
    expected = (255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255
    plain = decode.image(encode(cmyk, "TIFF"))
    assert abs(plain - expected).max() <= 1
    jpeg = encode(cmyk, "JPEG", quality=100, subsampling=0)
    assert b"Adobe" in jpeg
    assert abs(decode.image(jpeg).astype(int) - plain).mean() < 2


def test_other_colour_spaces_of_pillow() -> None:
    for mode in ("YCbCr", "HSV", "RGBX"):
        image = Image.fromarray(photo()).convert(mode)
        np.testing.assert_array_equal(decode.pil(image), np.asarray(image.convert("RGB")))
    with pytest.raises(InputError, match="Lab"):
        decode.pil(Image.new("LAB", (2, 2)))


def test_the_first_frame_counts() -> None:
    frames = [Image.fromarray(photo(seed=seed)).quantize(64) for seed in range(3)]
    for kind in ("GIF", "TIFF"):
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
        same(data, np.asarray(frames[0].convert("RGB")))
    colour = [Image.fromarray(photo(seed=seed)) for seed in range(3)]
    same(encode(colour[0], "PNG", save_all=True, append_images=colour[1:]), photo(seed=0))
    both = encode(colour[0], "MPO", save_all=True, append_images=colour[1:])
    same(both, np.asarray(Image.open(io.BytesIO(both)).convert("RGB")))


@pytest.mark.parametrize("kind", [*KINDS, "progressive", "interlaced"])
def test_a_cut_file_is_an_error_and_never_half_grey(kind: str) -> None:
    pixels = photo(96, 80)
    options: dict[str, object] = {"progressive": True} if kind == "progressive" else {}
    data = encode(pixels, {"progressive": "JPEG", "interlaced": "PNG"}.get(kind, kind), **options)
    whole = decode.image(data)
    for length in sorted({*range(0, len(data), max(1, len(data) // 60)), *range(len(data) - 12, len(data))}):
        found, error = outcome(lambda length=length: decode.image(data[:length], name="cut"))
        if error is not None:
            assert "cut" in error.message
        else:  # only what comes after the pixels was cut off
            np.testing.assert_array_equal(found, whole)
            assert length > len(data) - 24, length


@pytest.mark.parametrize("progressive", [False, True])
def test_every_cut_of_a_jpeg_is_found(progressive: bool) -> None:
    data = encode(photo(40, 40), "JPEG", progressive=progressive)
    for length in range(0, len(data) - 1, 7):
        with pytest.raises(InputError):
            decode.image(data[:length])
    with pytest.raises(InputError):
        decode.image(data[: len(data) // 2] + bytes(len(data) // 2))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"hello, this is text", "it is text that begins with 'hello"),
        (bytes(500), "begins with zeros"),
        (b"\x01\x02\x03\x04" * 9, "begins with the bytes 01 02"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image"),
        (b"\xff\xd8\xff\xe0", "damaged JPEG"),
        (b"\x89PNG\r\n\x1a\n", "damaged PNG"),
        (b"GIF89a", "damaged GIF"),
        (b"BM" + bytes(20), "damaged BMP"),
        (b"II*\0\x08\0\0\0", "damaged TIFF"),
        (b"RIFF\x20\0\0\0WEBPVP8 ", "damaged WebP"),
        (b"P6\n3 3\n255\n12", "damaged PPM"),
    ],
)
@PILLOW_WARNS
def test_what_is_no_image_is_named(data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        decode.image(data, name="roses/x.jpg")
    assert caught.value.message.startswith("roses/x.jpg ")
    assert caught.value.path == "roses/x.jpg"
    assert caught.value.hint


def test_bombs_are_refused_before_they_are_decoded() -> None:
    with pytest.raises(InputError, match="20000 x 20000 is more than 100 megapixels"):
        decode.image(png_header(20000, 20000), name="big.png")
    with pytest.raises(InputError, match="megapixels"):
        decode.pil(Image.new("1", (10001, 10000)))


def test_jpegs_of_very_many_scans_are_refused_before_they_are_decoded() -> None:
    assert len(np.unique(decode.image(many_scans(7)))) == 2
    with pytest.raises(InputError, match=r"slow\.jpg has more than 500 scans"):
        decode.image(many_scans(8), name="slow.jpg")
    # What follows the image is not decoded: phones put films there.
    same(encode(photo(), "JPEG") + b"\xff\xda" * 600, decode.image(encode(photo(), "JPEG")))


def test_sizes_that_a_jpeg_only_claims() -> None:
    """A bomb is refused by its size, 65535 pixels and none by libjpeg."""
    data = encode(photo(60, 44), "JPEG")
    sides = struct.pack(">HH", 44, 60)
    assert data.count(sides) == 1
    for tall, wide, words in (
        (60000, 60000, "60000 x 60000 is more than 100 megapixels"),
        (1, 65535, "damaged JPEG"),
        (65535, 1, "damaged JPEG"),
        (44, 0, "damaged JPEG"),
    ):
        claimed = data.replace(sides, struct.pack(">HH", tall, wide))
        assert preprocessor(Spec()).jpeg(claimed) is None
        with pytest.raises(InputError, match=words):
            decode.image(claimed, name="claims.jpg")


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_up_to_a_hundred_megapixels_nothing_warns(kind: str) -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    image = Image.new("1", (10000, 9500))
    assert image.width * image.height > Image.MAX_IMAGE_PIXELS
    data = encode(image, kind, **({"compression": "group4"} if kind == "TIFF" else {}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = decode.open_image(data)
        decode.load(opened, "large")
    assert opened.size == (10000, 9500)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (65500, 1), (1, 65500), (65535, 2)])
def test_the_smallest_and_the_longest(size: tuple[int, int]) -> None:
    for kind in ("PNG", "JPEG") if max(size) <= 65500 else ("PNG", "TIFF"):  # libjpeg's limit
        assert decode.image(encode(Image.new("RGB", size), kind)).shape == (size[1], size[0], 3)


def test_the_suffix_does_not_matter() -> None:
    np.testing.assert_array_equal(decode.image(encode(photo(), "PNG"), name="x.jpg"), photo())


@PILLOW_WARNS
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=60)
def test_damaged_files_are_read_or_refused(kind: str, data: st.DataObject) -> None:
    """Bytes changed, cut, repeated or put in: an image comes out, or InputError; nothing else."""
    good = bytearray(encode(Image.fromarray(photo(20, 14)).convert("P" if kind == "GIF" else "RGB"), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(good) - 1))
        what = data.draw(st.sampled_from(["change", "cut", "repeat", "insert"]))
        if what == "change":
            good[place] = data.draw(st.integers(0, 255))
        elif what == "cut" and place:
            del good[place : place + data.draw(st.integers(1, 40))]
        elif what == "repeat":
            good[place:place] = good[place : place + 30]
        else:
            good[place:place] = data.draw(st.binary(max_size=20))
    pixels, error = outcome(lambda: decode.image(bytes(good), name="fuzz"))
    if error is not None:
        assert "fuzz" in error.message
    else:
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3


SIGNATURES = [
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"RIFF\x40\0\0\0WEBPVP8X",
    b"GIF89a",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"P3 4 4 255 ",
    b"P6\n4 4\n255\n",
    b"\0\0\0\x18ftypavif",
]


@PILLOW_WARNS
@given(st.sampled_from(SIGNATURES), st.binary(max_size=200))
@settings(max_examples=200)
def test_rubbish_behind_a_signature_is_read_or_refused(signature: bytes, rubbish: bytes) -> None:
    pixels, error = outcome(lambda: decode.image(signature + rubbish))
    assert pixels.dtype == np.uint8 if error is None else error.hint


class Counted:
    """A sample that counts how many of its kind were read."""

    read_so_far = 0

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self.data = data

    def read(self) -> bytes:
        Counted.read_so_far += 1
        return self.data


def test_stream_is_in_order_and_bounded() -> None:
    Counted.read_so_far = 0
    samples = [Counted(f"{i}", encode(photo(8, 8, seed=i))) for i in range(40)]
    stream = decode.stream(samples, workers=3, ahead=5)
    for expected, (index, pixels) in enumerate(stream):
        assert index == expected
        np.testing.assert_array_equal(pixels, photo(8, 8, seed=index))
        assert Counted.read_so_far <= expected + 6
        if expected == 20:
            break
    stream.close()
    assert Counted.read_so_far < 40


def test_stream_names_the_bad_one_after_the_good_ones() -> None:
    samples = [Counted("good", encode(photo())), Counted("bad", b"no image at all"), Counted("good", b"")]
    stream = decode.stream(samples)
    assert next(stream)[0] == 0
    with pytest.raises(InputError, match="bad is not an image"):
        next(stream)


def test_stream_follows_the_spec() -> None:
    samples = [Counted("x", encode(photo(24, 16), "JPEG", exif=exif(6)))]
    assert next(decode.stream(samples))[1].shape == (24, 16, 3)
    spec = Spec(decode=Decode(exif=False))
    assert next(decode.stream(samples, spec))[1].shape == (16, 24, 3)


def test_work_ahead_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="workers"):
        next(ordered(str, [1], workers=0))


@pytest.mark.parametrize("name", ["flowers", "gtsrb", "magnetic_tile"])
def test_real_photos_are_what_pillow_reads(shared_data: Path, name: str) -> None:
    files = sorted((shared_data / name / "val").glob("*/*"))[::25]
    assert files
    for file in files:
        with Image.open(file) as opened:
            expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
        np.testing.assert_array_equal(decode.image(file.read_bytes(), name=str(file)), expected)
