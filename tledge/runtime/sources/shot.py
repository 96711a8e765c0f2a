"""What every source gives: frames with their numbers, and how they are counted."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from tledge.runtime.prediction import AnyImage


@dataclass(frozen=True, eq=False)
class Shot:
    """One frame of a source.

    Attributes:
        file: the image's path, or the name of the video or camera.
        number: which of the source's frames it is, from 0; those that were dropped are counted.
        image: what the model answers; None where the frame cannot be read.
        seconds: when it is shown, from the start of the stream; None where the source does not say.
        error: why the frame cannot be read.
    """

    file: str
    number: int
    image: AnyImage | None
    seconds: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Counts:
    """Frames that the source gave, dropped for newer ones, answered, and those that had no answer."""

    read: int
    dropped: int
    done: int
    failed: int

    def as_dict(self) -> dict[str, Any]:
        """Return the object that ends a stream under `--json`."""
        return {"in": self.read, "dropped": self.dropped, "done": self.done, "failed": self.failed}

    def __str__(self) -> str:
        """Say it in words."""
        return f"{self.read} frames in, {self.dropped} dropped, {self.done} done, {self.failed} failed"


@runtime_checkable
class Source(Protocol):
    """Where frames come from. It is read by one thread, once.

    `live` sources make frames at their own pace: what is not wanted in time is dropped. Others wait.
    """

    @property
    def name(self) -> str:
        """Return what messages and answers call it."""

    @property
    def live(self) -> bool:
        """Return whether frames that come too fast are dropped."""

    def shots(self) -> Generator[Shot, None, None]:
        """Yield the frames as they come; the source is closed when the iterator ends or is closed.

        Raises:
            InputError: there is no such source, it cannot be read (on), or it ended where it should not.
            MachineError: a package, a program or a permission is missing.
        """

    def stop(self) -> None:
        """Make a read that is waiting end soon; called from another thread."""
