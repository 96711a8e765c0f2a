"""What one server takes on, and how it says no."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one server takes on. Seconds and bytes; memory is bounded by `queue` times `body`."""

    batch: int = 4  # as in `Model.predict`: more no longer fits the cache of a small processor
    wait: float = 0.002  # less than an inference takes, so that waiting costs little and gathers much
    workers: int = 1  # inferences at once
    queue: int = 64
    body: int = 20 << 20  # the largest camera JPEGs have 15 MB
    images: int = 64  # in one form: half a second of inference, so that others are not kept waiting for long
    slow: float = 10.0  # for the whole of a body to arrive
    whole: float = 30.0  # from the whole body to the answer
    pixels: int = 50_000_000  # the largest of phones and cameras; some hundred bytes can ask for more
    scanned: int = 1_000_000_000  # pixels times scans of a JPEG: two seconds; encoders make some ten scans


class Refused(Exception):
    """A request that is answered with an error: its status and the body of the contract."""

    def __init__(self, status: int, kind: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.hint = status, kind, message, hint
