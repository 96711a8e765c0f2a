from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tledge.errors import InputError
from tledge.runtime.sources.reader import AHEAD, Reader
from tledge.runtime.sources.shot import Shot, Source
from tledge.runtime.sources.stills import Images


class Camera:
    """A fake camera: gives a frame whenever `shoot` is called."""

    name = "camera"
    live = True

    def __init__(self) -> None:
        self.trigger = threading.Semaphore(0)
        self.given = 0
        self.unplugged = self.closed = False

    def shoot(self, count: int, reader: Reader) -> None:
        """Give so many frames, and wait until the reader has them."""
        before = reader.read
        self.trigger.release(count)
        wait(lambda: reader.read == before + count)

    def stop(self) -> None:
        self.unplugged = True
        self.trigger.release()

    def shots(self) -> Iterator[Shot]:
        try:
            while True:
                self.trigger.acquire()
                if self.unplugged:
                    raise InputError("unplugged")
                yield Shot(self.name, self.given, b"")
                self.given += 1
        finally:
            self.closed = True


def wait(condition) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


def test_of_a_camera_the_newest_frame_waits_and_the_others_are_dropped():
    camera = Camera()
    assert isinstance(camera, Source)
    with Reader(camera) as reader:
        frames = iter(reader)
        camera.shoot(1, reader)
        assert next(frames).number == 0
        camera.shoot(7, reader)
        wait(lambda: reader.dropped == 6)
        assert next(frames).number == 7
        camera.shoot(1, reader)
        assert next(frames).number == 8
        assert (reader.read, reader.dropped) == (9, 6)
    assert camera.closed


def test_what_came_before_a_fault_is_handed_out_first():
    camera = Camera()
    with Reader(camera) as reader:
        camera.shoot(1, reader)
        camera.stop()
        frames = iter(reader)
        assert next(frames).number == 0
        with pytest.raises(InputError, match="unplugged"):
            next(frames)


def test_a_camera_that_gives_nothing_is_not_waited_for_without_end():
    camera = Camera()
    with Reader(camera, patience=0.05) as reader, pytest.raises(InputError, match=r"no frame for 0\.05 sec"):
        next(iter(reader))


def test_a_file_is_read_a_little_ahead_and_loses_nothing():
    taken: list[int] = []

    def images() -> Iterator[bytes]:
        for number in range(50):
            taken.append(number)
            yield bytes([number])

    with Reader(Images("file", images())) as reader:
        wait(lambda: len(taken) == AHEAD + 1)
        time.sleep(0.02)
        assert len(taken) == AHEAD + 1  # two wait, and the third has no room
        assert [shot.number for shot in reader] == list(range(50))
        assert (reader.read, reader.dropped) == (50, 0)


def test_leaving_early_ends_the_thread():
    with Reader(Images("file", iter(bytes, None))) as reader:
        assert next(iter(reader)).number == 0
    assert not [thread for thread in threading.enumerate() if thread.name == "tledge-source"]
