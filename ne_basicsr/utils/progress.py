"""How long work shows that it goes on: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0


class Lines:
    """Stands in for tqdm where nobody watches: a line now and then."""

    def __init__(self, total: int, what: str, unit: str) -> None:
        self.total, self.what, self.unit, self.done = total, what, unit, 0
        self._start = self._last = time.monotonic()

    def update(self, count: int = 1) -> None:
        self.done += count
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            left = (now - self._start) / max(1, self.done) * (self.total - self.done)
            print(f'{self.what}: {self.done} of {self.total} {self.unit}s, {left:.0f} s left', file=sys.stderr)


@contextmanager
def progress(total: int, what: str, unit: str, shown: bool = True) -> Iterator[Any]:
    """``update(count)`` moves it on; nothing is shown where not ``shown``."""
    if shown and not sys.stderr.isatty():
        yield Lines(total, what, unit)
        return
    with tqdm(total=total, desc=what, unit=unit, disable=not shown, leave=False, file=sys.stderr) as bar:
        yield bar
