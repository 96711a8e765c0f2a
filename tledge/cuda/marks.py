"""Marks between the steps of a graph: how long the GPU took for each.

An event that is recorded in the usual way while a stream is captured only orders the graph, and keeps no
time. With the driver's flag for external events it is a node of the graph, and keeps the time of each launch.
pycuda 2026.1 knows no such flag, so these are the driver's own functions.
"""

from __future__ import annotations

import ctypes

from tledge.cuda.raw import call
from tledge.cuda.stream import Stream

EXTERNAL = 1  # CU_EVENT_RECORD_EXTERNAL: a node of the graph; refused outside of a capture


class Marks:
    """The marks of one graph, in the order in which they were placed. Made and freed in the GPU's thread."""

    def __init__(self) -> None:
        self._placed: list[tuple[str, ctypes.c_void_p]] = []

    def place(self, stream: Stream, step: str) -> None:
        """Mark in the captured stream where `step` ends and the next begins; the first mark begins the first.

        Raises:
            TledgeError: the stream is not being captured.
        """
        event = ctypes.c_void_p()
        call("cuEventCreate", ctypes.byref(event), ctypes.c_uint(0))
        self._placed.append((step, event))
        call("cuEventRecordWithFlags", event, ctypes.c_void_p(stream.handle), ctypes.c_uint(EXTERNAL))

    def milliseconds(self) -> dict[str, float]:
        """Return how long each step took when the graph ran last, by its name, in ms.

        Whoever asks has waited for the stream.
        """
        taken: dict[str, float] = {}
        for (_, start), (step, end) in zip(self._placed, self._placed[1:], strict=False):
            found = ctypes.c_float()
            call("cuEventElapsedTime", ctypes.byref(found), start, end)
            taken[step] = taken.get(step, 0.0) + found.value
        return taken

    def free(self) -> None:
        """Give the events back, after the graph; once more does nothing."""
        while self._placed:
            call("cuEventDestroy_v2", self._placed.pop()[1])
