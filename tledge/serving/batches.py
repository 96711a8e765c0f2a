"""Dynamic batching: requests that wait at the same time share one inference."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeAlias

from tledge.runtime import Prediction

Answer: TypeAlias = "asyncio.Future[Prediction]"


class Batcher:
    """Collects images and answers them together, in a thread, in the order in which they came.

    `predict` answers a list of files' bytes. It is called by one thread at a time, so that inferences do not
    fight for the cores.
    """

    def __init__(
        self, predict: Callable[[Sequence[bytes]], Sequence[Prediction]], *, most: int, wait: float
    ) -> None:
        """`most` images share an inference; the first of them waits for others `wait` seconds at the most."""
        self._predict, self._most, self._wait = predict, most, wait
        self._queue: asyncio.Queue[tuple[bytes, Answer]] = asyncio.Queue()

    async def answer(self, data: bytes) -> Prediction:
        """Return the answer for one image; whoever is cancelled while waiting costs no inference."""
        future: Answer = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((data, future))
        return await future

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            batch = [await self._queue.get()]
            until = asyncio.get_running_loop().time() + self._wait
            while len(batch) < self._most:
                left = until - asyncio.get_running_loop().time()
                try:
                    batch.append(await asyncio.wait_for(self._queue.get(), max(left, 0.0)))
                except asyncio.TimeoutError:
                    break
            await self._answer_all([(data, future) for data, future in batch if not future.done()])

    async def _answer_all(self, batch: Sequence[tuple[bytes, Answer]]) -> None:
        if not batch:
            return
        try:
            answers = await asyncio.to_thread(self._predict, [data for data, _ in batch])
        except Exception as error:  # whatever it is belongs to those who asked; the next batch goes on
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)
