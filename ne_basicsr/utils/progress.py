"""The progress of long work: a bar on a terminal, a line now and then elsewhere."""

import sys
from typing import Any

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0
LINE = '{desc}: {n_fmt} of {total_fmt} {unit}s, {remaining} left\n'


def progress(total: int, what: str, unit: str, shown: bool = True) -> Any:
    """A context whose ``update(count)`` advances the display on stderr; nothing is displayed if not ``shown``."""
    options: dict[str, Any] = {}
    if not sys.stderr.isatty():
        options = {'bar_format': LINE, 'mininterval': SECONDS_BETWEEN_LINES, 'delay': SECONDS_BETWEEN_LINES}
    return tqdm(total=total, desc=what, unit=unit, disable=not shown, leave=False, file=sys.stderr, **options)
