"""Dynamic batching: requests that wait at the same time share one inference."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from numpy.typing import NDArray

from tledge.runtime import Prediction

Tensor: TypeAlias = NDArray[Any]
Inferred: TypeAlias = tuple[Prediction, float]  # an answer, and the seconds that its inference took
Answer: TypeAlias = "asyncio.Future[Inferred]"


class Batcher:
    """Collects input tensors and answers them together, in threads.

    `predict` answers a list of tensors of one image each. It is called by `workers` threads at a time.
    """

    def __init__(
        self,
        predict: Callable[[Sequence[Tensor]], Sequence[Inferred]],
        *,
        workers: int,
        most: int,
        wait: float,
    ) -> None:
        """`most` images share an inference; the first of them waits for others `wait` seconds at the most."""
        self._predict, self._workers, self._most, self._wait = predict, workers, most, wait
        self._queue: asyncio.Queue[tuple[Tensor, Answer]] = asyncio.Queue()

    async def answer(self, tensor: Tensor) -> Inferred:
        """Return the answer for one image's tensor; whoever is cancelled while waiting costs no inference."""
        future: Answer = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((tensor, future))
        return await future

    async def run(self) -> None:
        """Answer until cancelled."""
        await asyncio.gather(*(self._work() for _ in range(self._workers)))

    async def _work(self) -> None:
        while True:
            batch = [await self._queue.get()]
            until = asyncio.get_running_loop().time() + self._wait
            while len(batch) < self._most:
                left = until - asyncio.get_running_loop().time()
                try:
                    batch.append(await asyncio.wait_for(self._queue.get(), max(left, 0.0)))
                except asyncio.TimeoutError:
                    break
            await self._answer_all([(tensor, future) for tensor, future in batch if not future.done()])

    async def _answer_all(self, batch: Sequence[tuple[Tensor, Answer]]) -> None:
        if not batch:
            return
        try:
            answers = await asyncio.to_thread(self._predict, [tensor for tensor, _ in batch])
        except Exception as error:  # whatever it is belongs to those who asked; the next batch goes on
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)
