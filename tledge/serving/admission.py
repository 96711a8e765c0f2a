"""What an image would cost to decode, told from its header: a small file can ask for gigabytes."""

from __future__ import annotations

from tledge.data import decode
from tledge.errors import InputError
from tledge.serving.limits import Limits

SCAN = b"\xff\xda"  # begins a scan of a JPEG; within a scan's own data 0xff is followed by 0


def check(data: bytes, bounds: Limits) -> None:
    """Look at an image's header.

    Raises:
        InputError: it is no image, has more pixels than allowed, or is a JPEG in so many scans that passing
            over its pixels again and again takes longer than decoding the largest image.
    """
    width, height = decode.open_image(data).size
    if width * height > bounds.pixels:
        raise InputError(
            f"the image is too large: {width} x {height} is more than {bounds.pixels / 1e6:g} megapixels",
            hint="Scale it down first.",
        )
    scans = data.count(SCAN) if data.startswith(b"\xff\xd8") else 1
    if width * height * scans > bounds.scanned:
        raise InputError(
            f"the image is {width} x {height} in {scans} scans: too much to decode", hint="Save it anew."
        )
