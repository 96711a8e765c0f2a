"""Training curves for TensorBoard: `finetune --tensorboard DIR`.

An event file is a TFRecord file of `Event` messages (tensorflow/core/util/event.proto): each record is its
length (uint64), the masked CRC-32C of the length, the message, and the masked CRC-32C of the message, all
little-endian. Scalars need four kinds of fields, so that the format is written here, and no package with it.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from tledge.bundle.files import explained

VERSION = b"brain.Event:2"  # of the format: the first record says so
POLYNOMIAL = 0x82F63B78  # of CRC-32C (Castagnoli), reflected
MASK = 0xA282EAD8


class Events:
    """An event file in a folder; every record is flushed, so that curves are seen while a run goes on."""

    def __init__(self, folder: Path) -> None:
        """Begin a file.

        Raises:
            MachineError: the folder cannot be made, or may not be written.
        """
        began = time.time()
        self.path = folder / f"events.out.tfevents.{int(began)}.{os.getpid()}.tledge"
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self.path.write_bytes(record(_double(1, began) + _bytes(3, VERSION)))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Append the values of a step, each under its name."""
        summary = b"".join(
            _bytes(1, _bytes(1, name.encode()) + _float(2, value)) for name, value in values.items()
        )
        message = _double(1, time.time()) + _varint(2 << 3) + _varint(step) + _bytes(5, summary)
        with explained(self.path), self.path.open("ab") as file:
            file.write(record(message))


def record(message: bytes) -> bytes:
    """Return a message as a record of a TFRecord file."""
    length = struct.pack("<Q", len(message))
    return length + _checked(length) + message + _checked(message)


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of some bytes (RFC 3720, appendix B.4)."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (POLYNOMIAL if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def _checked(data: bytes) -> bytes:
    """Return the masked CRC: a plain one of data that hold CRCs would be weak."""
    found = crc32c(data)
    return struct.pack("<I", ((found >> 15 | found << 17) + MASK) & 0xFFFFFFFF)


def _varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _bytes(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)
