"""Event files: the checksums by published vectors, the records by a decoder of their own, and a real run."""

from __future__ import annotations

import dataclasses
import math
import struct
from pathlib import Path

import pytest

from tests.training.conftest import QUICK
from tledge.data import find
from tledge.errors import TledgeError, UsageError
from tledge.training import events, finetune


@pytest.mark.parametrize(
    ("data", "wanted"),  # RFC 3720, appendix B.4, and the usual check value
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b"123456789", 0xE3069283),
    ],
)
def test_the_checksum_is_that_of_the_standard(data: bytes, wanted: int) -> None:
    assert events.crc32c(data) == wanted


def messages(data: bytes) -> list[bytes]:
    """Return the messages of a TFRecord file after checking every record."""
    found = []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        message = data[12 : 12 + length]
        for part, start in ((data[:8], 8), (message, 12 + length)):
            (masked,) = struct.unpack("<I", data[start : start + 4])
            rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
            assert (rotated << 15 | rotated >> 17) & 0xFFFFFFFF == events.crc32c(part)
        found.append(message)
        data = data[16 + length :]
    return found


def fields(message: bytes) -> list[tuple[int, object]]:
    """Return (number, value) of a protobuf message's fields: integers, floats and bytes."""
    found: list[tuple[int, object]] = []
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    while place < len(message):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            found.append((number, varint()))
            continue
        size = {1: 8, 5: 4}.get(kind) or varint()
        data = message[place : place + size]
        place += size
        found.append((number, struct.unpack({1: "<d", 5: "<f"}[kind], data)[0] if kind != 2 else data))
    return found


def scalars(path: Path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    first, *rest = messages(path.read_bytes())
    assert dict(fields(first))[3] == b"brain.Event:2"
    for message in rest:
        event = dict(fields(message))
        for _, value in fields(event[5]):  # type: ignore[arg-type]
            entry = dict(fields(value))  # type: ignore[arg-type]
            found.setdefault(entry[1].decode(), []).append((event[2], entry[2]))  # type: ignore[attr-defined,arg-type]
    return found


def test_scalars_come_back(tmp_path: Path) -> None:
    made = events.Events(tmp_path / "new" / "folder")
    made.scalars(1, {"loss": 2.5, "rate": 1e-3})
    made.scalars(300, {"loss": math.pi})
    assert scalars(made.path) == {
        "loss": [(1, 2.5), (300, pytest.approx(math.pi))],
        "rate": [(1, pytest.approx(1e-3))],
    }


def test_a_run_writes_its_epochs(digits: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(QUICK, epochs=2, tensorboard=str(tmp_path / "events"))
    bundle = finetune(find(digits), tmp_path / "a.tledge", settings)
    (path,) = (tmp_path / "events").iterdir()
    found = scalars(path)
    history = bundle.settings["finetune"]["chosen"]["history"]
    assert [value for _, value in found["loss"]] == pytest.approx([one["loss"] for one in history])
    assert [step for step, _ in found["tune_top1"]] == [1, 2]
    assert found["rate"][0][1] > found["rate"][1][1] >= 0


def test_what_cannot_be_written_is_said_before_training(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    settings = dataclasses.replace(QUICK, tensorboard=str(tmp_path / "file"))
    with pytest.raises(TledgeError):
        finetune(find(digits), tmp_path / "a.tledge", settings)
    with pytest.raises(UsageError, match="no epochs"):
        dataclasses.replace(QUICK, tensorboard="x", method="probe")


def test_a_file_for_a_folder_is_refused_before_anything_is_written(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").write_bytes(b"")
    settings = dataclasses.replace(QUICK, tensorboard=str(tmp_path / "runs"))
    with pytest.raises(UsageError, match="is a file"):
        finetune(find(digits), tmp_path / "a.tledge", settings)
    assert not (tmp_path / "a.tledge").exists()
