"""Answers for the frames of a source, one by one, while the next frame is being decoded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterator

from tledge.errors import InputError
from tledge.runtime.prediction import AnyImage, Prediction
from tledge.runtime.sources.reader import Reader
from tledge.runtime.sources.shot import Counts, Shot, Source


class Stream:
    """An iterator of (frame, answer); `counts` says how many came, were dropped and were answered.

    It ends with the source, or by `close()`, or where the block of a `with` ends. A frame that cannot be read
    gets an answer with `error` set. A fault of the source is raised where it happens, after the answers to
    what came before; the model can be used on.
    """

    def __init__(self, source: Source, predict: Callable[[AnyImage], Prediction], lanes: int = 1) -> None:
        """Read nothing yet. `lanes` frames of a file are answered at a time; of a camera, one."""
        self._reader = Reader(source)
        self._predict = predict
        self._lanes = 1 if source.live else lanes
        self._done = self._failed = 0
        self._answers = self._run()

    @property
    def counts(self) -> Counts:
        """Return the counts so far."""
        return Counts(self._reader.read, self._reader.dropped, self._done, self._failed)

    def __iter__(self) -> Iterator[tuple[Shot, Prediction]]:
        return self

    def __next__(self) -> tuple[Shot, Prediction]:
        shot, answer = next(self._answers)
        if answer.error is None:
            self._done += 1
        else:
            self._failed += 1
        return shot, answer

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading; once more does nothing."""
        self._answers.close()

    def _run(self) -> Generator[tuple[Shot, Prediction], None, None]:
        from tledge.data.ahead import ordered

        with self._reader as shots:
            if self._lanes == 1:
                yield from map(self._answer, shots)
            else:
                yield from ordered(self._answer, shots, workers=self._lanes, ahead=self._lanes)

    def _answer(self, shot: Shot) -> tuple[Shot, Prediction]:
        if shot.image is None:
            return shot, Prediction(shot.file, None, None, None, (), shot.error)
        try:
            return shot, dataclasses.replace(self._predict(shot.image), file=shot.file)
        except InputError as error:
            return shot, Prediction(shot.file, None, None, None, (), error.message)
