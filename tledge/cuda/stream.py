"""Streams: work in order, beside the CPU; events mark places in a stream and measure between them."""

from __future__ import annotations

from typing import Any

from tledge.cuda.driver import driver, explained
from tledge.cuda.memory import Array, Buffer


class Event:
    """A mark in a stream."""

    def __init__(self, event: Any) -> None:
        self._event = event

    def record(self, stream: Stream) -> None:
        """Set the mark after what the stream was given so far."""
        with explained("recording an event"):
            self._event.record(stream.raw)

    def synchronise(self) -> None:
        """Wait until the work before the mark is done."""
        with explained("waiting for an event"):
            self._event.synchronize()

    def milliseconds_since(self, earlier: Event) -> float:
        """Return the time between two marks whose work is done, in milliseconds."""
        with explained("measuring between events"):
            return float(self._event.time_since(earlier._event))


class Stream:
    """An order of work on the GPU. `handle` is the CUstream, which TensorRT's `execute_async_v3` takes."""

    def __init__(self, stream: Any) -> None:
        self.raw = stream
        self.handle = int(stream.handle)

    def upload(self, to: Buffer, array: Array) -> None:
        """Copy the contiguous `array` to the start of `to`; beside the CPU if the array is page-locked."""
        _check(array, to)
        with explained(f"copying {array.nbytes} bytes to the GPU"):
            driver().memcpy_htod_async(to.address, array, self.raw)

    def download(self, array: Array, source: Buffer) -> None:
        """Fill the contiguous `array` from the start of `source`; it is valid after `synchronise`."""
        _check(array, source)
        with explained(f"copying {array.nbytes} bytes from the GPU"):
            driver().memcpy_dtoh_async(array, source.address, self.raw)

    def wait(self, event: Event) -> None:
        """Let what comes next in this stream wait for the event's mark, which may be in another stream."""
        with explained("waiting for another stream"):
            self.raw.wait_for_event(event._event)

    def synchronise(self) -> None:
        """Wait until everything that the stream was given is done; errors of kernels are raised here."""
        with explained("waiting for the GPU"):
            self.raw.synchronize()


def _check(array: Array, buffer: Buffer) -> None:
    if not array.flags.c_contiguous:
        raise ValueError("the array is not contiguous")
    if buffer.address == 0:
        raise ValueError("the buffer was freed")
    if array.nbytes > buffer.size:
        raise ValueError(f"{array.nbytes} bytes do not fit into a buffer of {buffer.size}")
