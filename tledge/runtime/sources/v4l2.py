"""What a V4L2 camera's driver says of its colours, which libav does not ask for.

The structure is the kernel's, `struct v4l2_format` of include/uapi/linux/videodev2.h; what a default means is
said there by V4L2_MAP_YCBCR_ENC_DEFAULT and V4L2_MAP_QUANTIZATION_DEFAULT.
"""

from __future__ import annotations

import fcntl
import os
import struct

from tledge.preprocess.frames import Matrix, Range
from tledge.runtime.sources.colour import UNSTATED, Colour

CAPTURE = 1  # V4L2_BUF_TYPE_VIDEO_CAPTURE
SIZE = 208  # of the structure on 64-bit Linux: a type, four bytes of padding, and 200 bytes
GET_FORMAT = 3 << 30 | SIZE << 16 | ord("V") << 8 | 4  # VIDIOC_G_FMT: _IOWR('V', 4, struct v4l2_format)
MAGIC = 0xFEEDCAFE  # V4L2_PIX_FMT_PRIV_MAGIC: the driver knows the fields behind `priv`
# Of `pix`, which begins at byte 8: colorspace, priv, flags, ycbcr_enc, quantization.
FIELDS = struct.Struct("=5I")
AT = 8 + 6 * 4
# V4L2_COLORSPACE_..., and the encodings that a colour space has where the driver names none.
JPEG, REC709, DCI_P3, BT2020, SMPTE240M, RAW = 7, 3, 12, 10, 2, 11
ENCODINGS: dict[int, Matrix] = {1: "bt601", 2: "bt709", 6: "bt2020"}
RANGES: dict[int, Range] = {1: "full", 2: "limited"}


def driver_colour(device: str) -> Colour:
    """Return matrix and range as the driver of an open camera says them; what it does not say is None."""
    data = bytearray(SIZE)
    struct.pack_into("=I", data, 0, CAPTURE)
    try:
        handle = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    except OSError:  # gone meanwhile: reading says so
        return UNSTATED
    try:
        fcntl.ioctl(handle, GET_FORMAT, data)
    except OSError:  # a driver of several planes: it has another structure
        return UNSTATED
    finally:
        os.close(handle)
    return parsed(bytes(data))


def parsed(data: bytes) -> Colour:
    """Return what a `struct v4l2_format` says. A colour space that is not named (0) says nothing."""
    space, priv, _, encoding, quantisation = FIELDS.unpack_from(data, AT)
    if priv != MAGIC:
        encoding = quantisation = 0
    if space in (0, RAW):
        return Colour(ENCODINGS.get(encoding), RANGES.get(quantisation))
    usual = {REC709: 2, DCI_P3: 2, BT2020: 6, SMPTE240M: 8}.get(space, 1)
    return Colour(
        ENCODINGS.get(encoding or usual), RANGES.get(quantisation, "full" if space == JPEG else "limited")
    )
