"""Who failed first is known to all; whoever falls silent is missed, and nobody else."""

import time
from collections.abc import Callable

import pytest
from torch import distributed

from ne_basicsr.utils.watchdog import Failure, Watchdog


class Ranks:
    """Watchdogs of several ranks in one process, on one store."""

    def __init__(self, count: int, patience: int = 5) -> None:
        store = distributed.HashStore()
        self.failures: dict[int, Failure] = {}
        self.lines = [
            Watchdog(store, rank, count, self._noting(rank), period=0.02, patience=patience, linger=0.5)
            for rank in range(count)
        ]

    def _noting(self, rank: int) -> Callable[[Failure], None]:
        return lambda failure: self.failures.setdefault(rank, failure)

    def wait_for(self, count: int) -> None:
        end = time.monotonic() + 20
        while len(self.failures) < count and time.monotonic() < end:
            time.sleep(0.01)


@pytest.fixture
def ranks():
    made = []

    def make(*arguments, **options):
        made.append(Ranks(*arguments, **options))
        return made[-1]

    yield make
    for each in made:
        for line in each.lines:
            line.close()


def test_the_others_learn_who_failed_and_why(ranks):
    three = ranks(3)
    first = three.lines[1].report(2, 'broken.png: not a readable image')
    three.wait_for(2)
    assert first == Failure(1, 2, 'broken.png: not a readable image')
    assert three.failures == {0: first, 2: first}


def test_the_first_failure_explains_those_that_follow(ranks):
    two = ranks(2, patience=1000)
    first = two.lines[1].report(2, 'out of data')
    assert two.lines[0].report(1, 'lost the connection') == first


def test_a_silent_rank_is_missed(ranks):
    three = ranks(3)
    time.sleep(0.1)
    three.lines[2].close()  # as if killed
    three.wait_for(2)
    assert set(three.failures) == {0, 1}
    assert {failure.rank for failure in three.failures.values()} == {2}
    assert 'no sign of life' in three.failures[0].line


def test_a_rank_that_is_done_is_not_missed(ranks):
    three = ranks(3)
    time.sleep(0.1)
    three.lines[2].leave()
    three.lines[2].close()
    time.sleep(0.5)  # 25 looks, 5 would be enough
    assert not three.failures


class Gone:
    """A store whose process has ended."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        def fail(*arguments: object) -> None:
            raise RuntimeError('Connection reset by peer\nand more')

        return fail


def test_a_lost_store_ends_a_rank_unless_it_is_done():
    failures: list[Failure] = []
    line = Watchdog(Gone(), 1, 2, failures.append, period=0.01)
    line._thread.join(10)
    assert failures == [Failure(0, 1, 'no longer reachable (Connection reset by peer)')]
    assert line.report(2, 'my own') == Failure(1, 2, 'my own')
