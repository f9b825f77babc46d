"""Processes that train together end together: when one fails, falls silent or is killed, the others soon stop.

Collectives do not see to that. gloo notices a closed connection, NCCL waits for its timeout, and a timeout short enough
to help would end runs in which one rank validates or saves for a while. So every process has a thread that counts up
its own entry in torch's store, watches the entry of the next rank, and reads who failed first.
"""

import json
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

FAILURE = 'failure'
FINISHED = b'finished'


class Failure(NamedTuple):
    """The first process that failed, the exit code, and one line."""

    rank: int
    code: int
    line: str


class Watchdog:
    """One process's end of it.

    Args:
        store: a torch store of its own connection, shared by all ranks.
        rank, world_size: of this process.
        on_failure: called from the thread with the failure of another process; ends this one.
        period: seconds between two looks.
        patience: looks without a sign of life after which the next rank counts as gone. Looks, not seconds: where the
            whole machine sleeps, nobody is missed.
        linger: seconds that rank 0, which may hold the store, waits at most for the others to read a failure.
    """

    def __init__(
        self,
        store: Any,
        rank: int,
        world_size: int,
        on_failure: Callable[[Failure], None],
        period: float = 1.0,
        patience: int = 30,
        linger: float = 5.0,
    ) -> None:
        self.store, self.rank, self.world_size = store, rank, world_size
        self.on_failure, self.period, self.patience, self.linger = on_failure, period, patience, linger
        self._leaving = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name='watchdog', daemon=True)
        self._thread.start()

    def report(self, code: int, line: str) -> Failure:
        """Say that this process fails; who failed first."""
        own = Failure(self.rank, code, line)
        self._closed.set()
        try:
            first = self._publish(own)
            self._wait_for_readers()
        except RuntimeError:  # the store is gone with its process
            return own
        return first

    def leave(self) -> None:
        """This process is done and waits for the others: from now on the store may vanish."""
        self._leaving = True
        self._set(FINISHED)

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        other = f'life/{(self.rank + 1) % self.world_size}'
        last, silent, looks = b'', 0, 0
        try:
            while not self._closed.wait(self.period):
                looks += 1
                if not self._leaving:
                    self._set(str(looks).encode())
                if self.store.check([FAILURE]):
                    failure = self._first()
                    self._wait_for_readers()
                    return self.on_failure(failure)
                sign = self.store.get(other) if self.store.check([other]) else b''
                silent = 0 if sign != last or sign == FINISHED else silent + 1
                last = sign
                if silent > self.patience:
                    gone = (self.rank + 1) % self.world_size
                    self._publish(Failure(gone, 1, f'no sign of life for {self.patience * self.period:g} s'))
        except RuntimeError as error:  # torch's DistError among them
            if not (self._leaving or self._closed.is_set()):
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                self.on_failure(Failure(0, 1, f'no longer reachable ({reason})'))

    def _set(self, value: bytes) -> None:
        self.store.set(f'life/{self.rank}', value)

    def _wait_for_readers(self) -> None:
        readers = self.store.add('readers', 1)
        for _ in range(int(self.linger / 0.1)):
            if readers >= self.world_size or self.rank != 0:
                return
            threading.Event().wait(0.1)
            readers = self.store.add('readers', 0)

    def _publish(self, failure: Failure) -> Failure:
        if self.store.add('failures', 1) == 1:
            self.store.set(FAILURE, json.dumps(failure))
            return failure
        return self._first()

    def _first(self) -> Failure:
        return Failure(*json.loads(self.store.get(FAILURE)))
