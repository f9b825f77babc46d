"""Finished cells on disk: a killed comparison goes on where it stopped, a repeated one is instant.

A cell's key is a digest of everything its value depends on (network, image, degradation, level, draw, seed,
arithmetic), so nothing needs to be declared stale: what has changed has another key. Each process appends to a file of
its own, a line per batch, flushed; a line that a kill has cut is left out when reading.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ne_basicsr.utils import regular_files
from ne_basicsr.utils.errors import InputError

Value = Any
"""What JSON holds; NaN and infinities included."""


def key_of(**parts: Any) -> str:
    """The key of what ``parts`` determine."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=12).hexdigest()


class CellStore:
    """Values by key, kept in ``folder``; ``rank`` tells the processes that write at the same time apart."""

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.folder = folder
        self.values: dict[str, Value] = {}
        self._file = folder / f'cells_{rank}.jsonl'
        for path in sorted(folder.glob('cells_*.jsonl')):
            self._read(path)

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def __getitem__(self, key: str) -> Value:
        return self.values[key]

    def add(self, values: Mapping[str, Value]) -> None:
        """Keep values, all of them or, where the process is killed meanwhile, none.

        Raises:
            InputError: where the disk is full or not writable.
        """
        self.values |= values
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self._file, 'ab') as file:
                if file.tell() and not _ends_with_newline(self._file):
                    file.write(b'\n')  # after a line that a kill, or a full disk, has cut
                file.write(json.dumps(values).encode() + b'\n')
        except OSError as error:
            raise InputError(
                f'{error.filename or self._file}: cannot be written ({error.strerror}); the same command goes on from'
                ' what is there, once there is space, or give another folder'
            ) from None

    def _read(self, path: Path) -> None:
        for line in regular_files.read(path).split(b'\n'):
            try:
                values = json.loads(line)
            except ValueError:
                continue  # empty, or cut by a kill
            if isinstance(values, dict):
                self.values |= values


def _ends_with_newline(path: Path) -> bool:
    with open(path, 'rb') as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b'\n'
