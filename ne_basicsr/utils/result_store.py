"""Finished cells on disk: a killed comparison continues where it stopped, a repeated one is instant.

A cell's key is a digest of everything its value depends on, so nothing is ever stale: a changed input gives another
key. Each process appends to its own file, a line per batch, flushed; a line that a kill has cut is skipped.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ne_basicsr.utils import atomic_files
from ne_basicsr.utils.errors import explained_writing

Value = Any  # what JSON holds; NaN and infinities included


def key_of(**parts: Any) -> str:
    """The key of what ``parts`` determine."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=12).hexdigest()


class CellStore:
    """Values by key, kept in ``folder``; ``rank`` distinguishes the processes that write at the same time."""

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.folder = folder
        self.values: dict[str, Value] = {}
        self._file = folder / f'cells_{rank}.jsonl'
        for path in sorted(folder.glob('cells_*.jsonl')):
            for line in atomic_files.read(path).split(b'\n'):
                with suppress(ValueError):  # empty, or cut by a kill
                    values = json.loads(line)
                    self.values |= values if isinstance(values, dict) else {}

    def add(self, values: Mapping[str, Value]) -> None:
        """Keep values: all or, if the process is killed or the disk is full (``InputError``), none."""
        self.values |= values
        way_out = 'free some space and give the same command, which continues from what was kept, or another folder'
        with explained_writing(self._file, way_out):
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self._file, 'ab') as file:
                # the first line break ends a line that a kill, or a full disk, has cut
                file.write(b'\n' + json.dumps(values).encode() + b'\n')
