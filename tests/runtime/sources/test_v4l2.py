from __future__ import annotations

import fcntl
import struct

import pytest

from tledge.runtime.sources import Colour, v4l2


def structure(space: int, encoding: int = 0, quantisation: int = 0, priv: int = v4l2.MAGIC) -> bytes:
    """Return a `struct v4l2_format` as a driver fills it in, field by field."""
    pixel_format = b"YUYV"
    pix = struct.pack("=II4sIII", 640, 480, pixel_format, 1, 1280, 614400)
    pix += struct.pack("=IIIIII", space, priv, 0, encoding, quantisation, 0)
    return (struct.pack("=II", v4l2.CAPTURE, 0) + pix).ljust(208, b"\0")


@pytest.mark.parametrize(
    ("said", "known"),
    [
        (structure(8), Colour("bt601", "limited")),  # sRGB, what UVC cameras say
        (structure(1), Colour("bt601", "limited")),
        (structure(3), Colour("bt709", "limited")),
        (structure(7), Colour("bt601", "full")),
        (structure(10), Colour("bt2020", "limited")),
        (structure(2), Colour(None, "limited")),  # SMPTE 240M, which the kernels do not know
        (structure(8, 2, 1), Colour("bt709", "full")),
        (structure(8, 2, 1, priv=0), Colour("bt601", "limited")),  # an old driver: those fields are no fields
        (structure(0), Colour()),
        (structure(0, 1, 2), Colour("bt601", "limited")),
    ],
)
def test_what_a_driver_says(said, known):
    assert v4l2.parsed(said) == known


def test_the_call_is_the_kernels(monkeypatch, tmp_path):
    device = tmp_path / "video0"
    device.touch()

    def ioctl(handle, request, data):
        assert request == 0xC0D05604  # VIDIOC_G_FMT on x86-64 and arm64
        assert (len(data), data[0]) == (208, 1)
        data[:] = structure(3)

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    assert v4l2.driver_colour(str(device)) == Colour("bt709", "limited")


def test_what_is_no_camera_says_nothing(tmp_path):
    assert v4l2.driver_colour("/dev/null") == Colour()
    assert v4l2.driver_colour(str(tmp_path / "none")) == Colour()
