"""Writing image stores so that a kill at any moment loses nothing that was reported as written."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

import cv2
import lmdb
import numpy as np
from numpy.typing import NDArray

from ne_basicsr.data.image_store import RAW_FILE, Image
from ne_basicsr.errors import InputError

COMPRESS_LEVEL = 1  # of PNG: BasicSR's
LONGEST_KEY = 511  # bytes, LMDB's limit
JOURNAL = 'prepare.jsonl'


class Entry(NamedTuple):
    """One value of a store: its key, shape (h, w, c), and its offset in a raw file (0 in an LMDB)."""

    name: str
    shape: tuple[int, int, int]
    offset: int = 0


class Value(NamedTuple):
    """A value to be written."""

    name: str
    shape: tuple[int, int, int]
    data: bytes


class Writer(Protocol):
    """A store that grows."""

    def put(self, value: Value) -> Entry: ...

    def sync(self) -> None:
        """Whatever was put is on the disk when this returns."""

    def close(self) -> None: ...


class LmdbWriter:
    """BasicSR's layout: PNG values under their names.

    Args:
        path: the folder of the LMDB.
        entries: what is in it already.
    """

    def __init__(self, path: Path, entries: Iterable[Entry] = ()) -> None:
        # the map is a limit, not a size: the file grows with what is written
        self._environment = lmdb.open(str(path), map_size=2**40)
        self._transaction = self._environment.begin(write=True)

    def put(self, value: Value) -> Entry:
        self._transaction.put(value.name.encode(), value.data)
        return Entry(value.name, value.shape)

    def sync(self) -> None:
        self._transaction.commit()
        self._transaction = self._environment.begin(write=True)

    def close(self) -> None:
        self._transaction.abort()
        self._environment.close()

    @staticmethod
    def encode(image: Image) -> bytes:
        ordered = image if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        return cv2.imencode('.png', ordered, [cv2.IMWRITE_PNG_COMPRESSION, COMPRESS_LEVEL])[1].tobytes()

    @staticmethod
    def line(entry: Entry) -> str:
        return f'{entry.name}.png ({",".join(map(str, entry.shape))}) {COMPRESS_LEVEL}\n'


class RawWriter:
    """The layout of ``image_store.RawStore``: values one after the other in one file.

    Args:
        path: the folder of the store.
        entries: what is in it already; bytes after them are of values that were not finished, and are dropped.
    """

    def __init__(self, path: Path, entries: Iterable[Entry] = ()) -> None:
        self._end = max((entry.offset + int(np.prod(entry.shape)) for entry in entries), default=0)
        self._file = (path / RAW_FILE).open('ab')
        if (size := self._file.seek(0, os.SEEK_END)) < self._end:
            raise InputError(f'{path}/{RAW_FILE}: {size} bytes of {self._end} are left; remove {path} and begin anew')
        self._file.truncate(self._end)

    def put(self, value: Value) -> Entry:
        self._file.write(value.data)
        entry = Entry(value.name, value.shape, self._end)
        self._end += len(value.data)
        return entry

    def sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    @staticmethod
    def encode(image: Image) -> bytes:
        return as_8_bits(image).tobytes()

    @staticmethod
    def line(entry: Entry) -> str:
        return f'{entry.name}.raw ({",".join(map(str, entry.shape))}) uint8 {entry.offset}\n'


WriterClass: TypeAlias = type[LmdbWriter] | type[RawWriter]
WRITERS: dict[str, WriterClass] = {'png': LmdbWriter, 'raw': RawWriter}


def as_8_bits(image: Image) -> NDArray[np.uint8]:
    """8-bit pixels as they are, 16-bit ones rounded to the nearest of 8 bits."""
    return image if image.dtype == np.uint8 else ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)


class Journal:
    """What was finished: a line per source image with its entries in each store, after a line of settings.

    A line counts once it is complete, and is written after the values that it lists. A source is in it with all its
    values or not at all.

    Args:
        path: the file; made if it is not there.
        settings: what the values depend on besides the sources.

    Raises:
        InputError: where the journal was begun with other settings.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.sources: dict[str, list[list[Entry]]] = {}
        self._pending: list[str] = []
        self._file = path.open('a+b')
        self._file.seek(0)
        content = self._file.read()
        complete = content[: content.rfind(b'\n') + 1]  # the last line may have been cut by a kill
        self._file.truncate(len(complete))
        header, *lines = [json.loads(line) for line in complete.splitlines()] or [None]
        if header is None:
            self._pending.append(_json(settings))
            self.sync()
        elif header != settings:
            key = next(key for key in {**header, **settings} if header.get(key) != settings.get(key))
            self._file.close()
            raise InputError(
                f'{path.parent}: was begun with {key} {_json(header.get(key))}, not {_json(settings.get(key))};'
                ' go on as it was begun, or remove it'
            )
        for line in lines:
            stores = [[Entry(name, (h, w, c), at) for name, h, w, c, at in entries] for entries in line['stores']]
            self.sources[line['source']] = stores

    def add(self, source: str, stores: list[list[Entry]]) -> None:
        """A finished source; it counts after ``sync``."""
        self.sources[source] = stores
        rows = [[[entry.name, *entry.shape, entry.offset] for entry in entries] for entries in stores]
        self._pending.append(_json({'source': source, 'stores': rows}))

    def entries(self, store: int) -> list[Entry]:
        """What is finished in one of the stores."""
        return [entry for stores in self.sources.values() for entry in stores[store]]

    def sync(self) -> None:
        """Write what was added, after the stores were synchronised."""
        self._file.write(''.join(f'{line}\n' for line in self._pending).encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._pending.clear()

    def close(self) -> None:
        self._file.close()


def write_meta_info(folder: Path, lines: Iterable[str]) -> None:
    """``meta_info.txt``, complete or as it was before."""
    part = folder / 'meta_info.txt.part'
    with part.open('w', encoding='utf-8') as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / 'meta_info.txt')


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
