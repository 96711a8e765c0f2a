"""A source read ahead by a thread of its own: of a camera only the newest frame waits, of a file a few do."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import closing

from tledge.errors import InputError
from tledge.runtime.sources.shot import Shot, Source

# Frames of a file that wait decoded: enough to decode while the network works, and never more memory.
AHEAD = 2
# Seconds without a frame after which a camera counts as gone; their own time-outs are shorter.
PATIENCE = 10.0
# Seconds that a stopped source gets to end; then its thread is left behind (it ends with the process).
STOPPING = 2.0


class Reader:
    """The frames of a source, while the next ones are read. Use it in a `with` block.

    A live source is never held up: a frame that nobody took is dropped for the next (`dropped`). Any other
    source waits, and none of its frames is dropped. `read` counts what the source gave.
    """

    def __init__(self, source: Source, ahead: int = AHEAD, patience: float = PATIENCE) -> None:
        self.read = 0
        self.dropped = 0
        self._source = source
        self._room = 1 if source.live else ahead
        self._patience = patience if source.live else None
        self._waiting: deque[Shot] = deque()
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="tledge-source", daemon=True)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the source; what waits is given up."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        self._source.stop()
        self._thread.join(STOPPING)

    def __iter__(self) -> Iterator[Shot]:
        """Yield the frames; at the end comes whatever error ended the source.

        Raises:
            InputError: a live source gave no frame for `patience` seconds; or as the source does.
            MachineError: as the source does.
        """
        while (shot := self._next()) is not None:
            yield shot

    def _next(self) -> Shot | None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting or self._ended, self._patience):
                raise InputError(
                    f"{self._source.name} gave no frame for {self._patience:g} seconds",
                    hint="Look whether it is plugged in and not used by another program, and run it again.",
                    path=self._source.name,
                )
            if self._waiting:
                shot = self._waiting.popleft()
                self._changed.notify_all()
                return shot
            if self._error is not None:
                raise self._error
            return None

    def _work(self) -> None:
        try:
            with closing(self._source.shots()) as shots:
                for shot in shots:
                    if not self._put(shot):
                        break
        except BaseException as error:  # it is raised again where the frames are taken
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, shot: Shot) -> bool:
        """Leave `shot` for the taker; say whether more are wanted."""
        with self._changed:
            self.read += 1
            if self._source.live and self._waiting:
                self._waiting.clear()
                self.dropped += 1
            self._changed.wait_for(lambda: len(self._waiting) < self._room or self._closed)
            if self._closed:
                return False
            self._waiting.append(shot)
            self._changed.notify_all()
            return True
