"""How many scans a JPEG has: a hundred bytes of one may go through all blocks of a large image."""

from __future__ import annotations

import re

# kMostScans of kernels/jpeg.h. Real files have about ten; one for each coefficient of each component is 192.
MOST_SCANS = 500

# ITU-T T.81, table B.1. A byte 0xFF of coded data is followed by 0x00; RST markers lie within a scan.
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
_TEM, _SOI, _EOI, _SOS = b"\x01", b"\xd8", b"\xd9", b"\xda"


def too_many_scans(data: bytes) -> bool:
    """Tell whether the JPEG file has more than MOST_SCANS scans before its end marker.

    Only what decodes slowly is bounded: "Two Issues with the JPEG Standard" (libjpeg-turbo.org), LJT-01-003.
    """
    # Nearly every file is done here. Others may hold such bytes in what follows the image, such as a film.
    if data.count(b"\xff" + _SOS) <= MOST_SCANS:
        return False
    scans, at = 0, 0
    while (marker := _MARKER.search(data, at)) is not None and marker[1] != _EOI:
        at = marker.end()
        if marker[1] in (_TEM, _SOI):
            continue
        if marker[1] == _SOS:
            scans += 1
            if scans > MOST_SCANS:
                return True
        at += int.from_bytes(data[at : at + 2], "big")
    return False
