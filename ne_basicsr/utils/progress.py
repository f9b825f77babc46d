"""The progress of long work: a bar on a terminal, a line now and then elsewhere."""

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0


def progress(total: float, what: str, unit: str, shown: bool = True) -> Any:
    """A context whose ``update(count)`` advances the display on stderr; nothing is displayed if not ``shown``."""
    count = '{n_fmt} of {total_fmt} {unit}s'
    options: dict[str, Any] = {'bar_format': f'{{desc}} |{{bar}}| {count}{{left}}'}
    if not sys.stderr.isatty():
        line = f'{{desc}}: {count}{{left}}\n'
        options = {'bar_format': line, 'mininterval': SECONDS_BETWEEN_LINES, 'delay': SECONDS_BETWEEN_LINES}
    return _Bar(total=total, desc=what, unit=unit, disable=not shown, leave=False, file=sys.stderr, **options)


def say(line: str) -> None:
    """Print a line to stdout at once, above the bar if there is one."""
    with tqdm.external_write_mode() if sys.stderr.isatty() else nullcontext():
        print(line, flush=True)


class _Bar(tqdm):
    @property
    def format_dict(self) -> Mapping[str, Any]:
        values = super().format_dict
        left = f', {self.format_interval(values["elapsed"] / self.n * (self.total - self.n))} left' if self.n else ''
        return {**values, 'left': left}
