"""Work that threads do ahead of the loop that needs it."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from itertools import islice
from typing import TypeVar

Item = TypeVar('Item')
Result = TypeVar('Result')


def ahead(
    pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], count: int
) -> Iterator[tuple[Item, Future[Result]]]:
    """Each item, in order, with the future of ``work(item)``; the pool has ``count`` items at most that wait."""
    left = iter(items)
    waiting = deque((item, pool.submit(work, item)) for item in islice(left, count))
    while waiting:
        yield waiting.popleft()
        waiting.extend((item, pool.submit(work, item)) for item in islice(left, 1))
