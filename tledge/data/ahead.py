"""Work done ahead by threads, handed out in order, with a bound on what waits in memory.

Decoding and hashing leave Python's lock to other threads, so threads are enough, and nothing has to be
copied between processes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from numpy.typing import NDArray

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int = 2, ahead: int = 64
) -> Iterator[Result]:
    """Yield `work(item)` for each item, in the order of `items`.

    `workers` threads work on at most `ahead` items that were not handed out yet. The first error is raised at
    the place of its item; what was begun is then given up, as it is when the iterator is closed early.
    """
    if workers < 1 or ahead < 1:
        raise ValueError(f"workers and ahead must be 1 or more, not {workers} and {ahead}")
    iterator = iter(items)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="tledge-ahead")
    try:
        waiting: deque[Future[Result]] = deque(
            pool.submit(work, item) for item in islice(iterator, max(ahead, workers))
        )
        while waiting:
            result = waiting.popleft().result()
            for item in islice(iterator, 1):
                waiting.append(pool.submit(work, item))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def stacked(
    work: Callable[[Item], NDArray[Any]],
    items: Iterable[Item],
    size: int,
    *,
    workers: int = 2,
    ahead: int = 64,
) -> Iterator[NDArray[Any]]:
    """Yield what `ordered` does, stacked `size` at a time; the last stack may be smaller."""
    import numpy as np

    results = ordered(work, items, workers=workers, ahead=ahead)
    while part := list(islice(results, size)):
        yield np.stack(part)
