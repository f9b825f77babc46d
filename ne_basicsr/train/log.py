"""The log of a training run: BasicSR's lines and curves, speed and memory, and a progress bar on a terminal."""

import datetime
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm


class Speed(NamedTuple):
    """Seconds per iteration, seconds of these spent waiting for data, images per second, seconds left."""

    iteration: float
    data: float
    images: float
    left: float


class Stopwatch:
    """Times iterations, each from ``start`` to ``stop``; the time between two of them is not counted.

    Args:
        images: per iteration, over all ranks.
        total: iterations of the run.
        done: those done before.
    """

    def __init__(self, images: int, total: int, done: int = 0) -> None:
        self.images, self.total, self.done = images, total, done
        self._began, self._before, self._tic = time.monotonic(), done, 0.0
        self.restart()

    def restart(self) -> None:
        """Let the next ``speed`` be that of the iterations from now on."""
        self._count, self._seconds, self._waiting = 0, 0.0, 0.0

    def start(self) -> None:
        self._tic = time.monotonic()

    def next(self, batches: Iterator[Any]) -> Any:
        """The next one of ``batches``; the time that it takes is spent waiting for data."""
        tic = time.monotonic()
        batch = next(batches)
        self._waiting += time.monotonic() - tic
        return batch

    def stop(self) -> None:
        self._seconds += time.monotonic() - self._tic
        self._count += 1
        self.done += 1

    def speed(self) -> Speed:
        """The speed since ``restart``. The time left includes saving and validation at their rate so far."""
        seconds, waiting = (value / max(1, self._count) for value in (self._seconds, self._waiting))
        average = (time.monotonic() - self._began) / max(1, self.done - self._before)
        return Speed(seconds, waiting, self.images / seconds if seconds else 0.0, average * (self.total - self.done))


def line(
    name: str, epoch: int, iteration: int, rates: Sequence[float], speed: Speed, log: Mapping[str, float], memory: str
) -> str:
    """One line of the log: as BasicSR's MessageLogger writes it, then images per second and ``memory``, a text."""
    lrs = ''.join(f'{rate:.3e},' for rate in rates)
    eta = datetime.timedelta(seconds=int(speed.left))
    values = ''.join(f'{key}: {value:.4e} ' for key, value in log.items())
    return (
        f'[{name[:5]}..][epoch:{epoch:3d}, iter:{iteration:8,d}, lr:({lrs})] '
        f'[eta: {eta}, time (data): {speed.iteration:.3f} ({speed.data:.3f})] '
        f'{values}[{speed.images:.4g} images/s{memory}]'
    )


@contextmanager
def progress_bar(total: int, done: int, shown: bool = True) -> Iterator[Any]:
    """A progress bar below the log lines on a terminal; nothing elsewhere, or if not ``shown``."""
    off = not (shown and sys.stderr.isatty())
    redirect = nullcontext() if off else logging_redirect_tqdm([logging.getLogger('basicsr')])
    with redirect, tqdm(total=total, initial=done, unit='it', dynamic_ncols=True, disable=off) as shown_bar:
        yield shown_bar
