"""Processes that train together end together: when one fails, falls silent or is killed, the others soon stop.

Neither collectives nor launchers ensure this. gloo notices a closed connection, but NCCL waits for its timeout, and a
timeout short enough to help would end runs in which one rank validates or saves for a while. torchrun stops the other
processes of its own machine only, Slurm those of a job only if it is configured so, and neither sees a process that
hangs. So every process has a thread that counts up its own entry in torch's store, watches the entry of the next rank,
and reads which process failed first.
"""

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from ne_basicsr.utils.errors import first_line

FAILURE, FINISHED = 'failure', b'finished'


class Failure(NamedTuple):
    """The first process that failed, its exit code, and one line."""

    rank: int
    code: int
    line: str


class Watchdog:
    """The watchdog of one process.

    Args:
        store: a torch store shared by all ranks, over a connection that nothing else uses.
        on_failure: called from the thread with the failure of another process; ends this one.
        period: seconds between two looks.
        patience: looks, not seconds, as the whole machine may sleep, after which a silent rank counts as gone.
        linger: seconds that rank 0, which may host the store, waits at most for the others to read a failure.
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
        """Tell the others that this process fails; returns the first failure of all."""
        first = Failure(self.rank, code, line)
        self._closed.set()
        with suppress(RuntimeError):  # the store is gone with its process
            first = self._publish(first)
            self._wait_for_readers()
        return first

    def leave(self) -> None:
        """This process is done and waits for the others: from now on the store may vanish."""
        self._leaving = True
        self.store.set(f'life/{self.rank}', FINISHED)

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        other = (self.rank + 1) % self.world_size
        last, silent, looks = b'', 0, 0
        try:
            while not self._closed.wait(self.period):
                looks += 1
                if not self._leaving:
                    self.store.set(f'life/{self.rank}', str(looks))
                if self.store.check([FAILURE]):
                    failure = Failure(*json.loads(self.store.get(FAILURE)))
                    self._wait_for_readers()
                    return self.on_failure(failure)
                sign = self.store.get(f'life/{other}') if self.store.check([f'life/{other}']) else b''
                silent = 0 if sign != last or sign == FINISHED else silent + 1
                last = sign
                if silent > self.patience:
                    self._publish(Failure(other, 1, f'no sign of life for {self.patience * self.period:g} s'))
        except RuntimeError as error:  # torch's DistError among them
            if not (self._leaving or self._closed.is_set()):
                self.on_failure(Failure(0, 1, f'no longer reachable ({first_line(error)})'))

    def _publish(self, failure: Failure) -> Failure:
        """Record the failure unless there is one already; returns the one that is recorded."""
        return Failure(*json.loads(self.store.compare_set(FAILURE, '', json.dumps(failure))))

    def _wait_for_readers(self) -> None:
        end = time.monotonic() + self.linger
        readers = self.store.add('readers', 1)
        while self.rank == 0 and readers < self.world_size and time.monotonic() < end:
            time.sleep(0.1)
            readers = self.store.add('readers', 0)
