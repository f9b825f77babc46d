"""Writing image stores so that a kill at any moment loses nothing that was reported as written."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

import cv2
import lmdb
import numpy as np
from numpy.typing import NDArray

from ne_basicsr.data.image_store import RAW_FILE, Image
from ne_basicsr.data.store_index import COMPRESS_LEVEL, Entry, checksum_of
from ne_basicsr.utils.errors import InputError

LONGEST_KEY = 511  # bytes, LMDB's limit
JOURNAL = 'prepare.jsonl'


class Value(NamedTuple):
    """A value to be written, with what its index will say."""

    name: str
    shape: tuple[int, int, int]
    data: bytes
    checksum: int


def value_of(name: str, image: Image, encode: Callable[[Image], bytes]) -> Value:
    height, width, channels = image.shape
    shape, data = (height, width, channels), encode(image)
    return Value(name, shape, data, checksum_of(name, shape, data))


class Writer(Protocol):
    """A store that grows."""

    def put(self, value: Value) -> Entry: ...

    def sync(self) -> None:
        """Whatever was put is on the disk when this returns."""

    def keep(self, entries: Iterable[Entry]) -> None:
        """Remove the values of sources that are gone or have changed."""

    def close(self) -> None: ...


class LmdbWriter:
    """BasicSR's layout: PNG values under their names.

    Args:
        path: the folder of the LMDB.
        entries: what is in it already.
    """

    def __init__(self, path: Path, entries: Iterable[Entry] = ()) -> None:
        # the map is a limit, not a size: the file grows with what is written
        self._environment = lmdb.open(os.fsencode(path), map_size=2**40)
        self._transaction = self._environment.begin(write=True)

    def put(self, value: Value) -> Entry:
        self._transaction.put(value.name.encode(), value.data)
        return Entry(value.name, value.shape, checksum=value.checksum)

    def sync(self) -> None:
        self._transaction.commit()
        self._transaction = self._environment.begin(write=True)

    def keep(self, entries: Iterable[Entry]) -> None:
        kept = {entry.name.encode() for entry in entries}
        with self._transaction.cursor() as cursor:
            for key in [key for key in cursor.iternext(values=False) if key not in kept]:
                self._transaction.delete(key)
        self.sync()

    def close(self) -> None:
        self._transaction.abort()
        self._environment.close()

    @staticmethod
    def encode(image: Image) -> bytes:
        ordered = image if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        return cv2.imencode('.png', ordered, [cv2.IMWRITE_PNG_COMPRESSION, COMPRESS_LEVEL])[1].tobytes()


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
        entry = Entry(value.name, value.shape, self._end, value.checksum)
        self._end += len(value.data)
        return entry

    def sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def keep(self, entries: Iterable[Entry]) -> None:
        pass  # they stay as bytes that the index does not list

    def close(self) -> None:
        self._file.close()

    @staticmethod
    def encode(image: Image) -> bytes:
        return as_8_bits(image).tobytes()


WriterClass: TypeAlias = type[LmdbWriter] | type[RawWriter]
WRITERS: dict[str, WriterClass] = {'png': LmdbWriter, 'raw': RawWriter}


def as_8_bits(image: Image) -> NDArray[np.uint8]:
    """8-bit pixels as they are, 16-bit ones rounded to the nearest of 8 bits."""
    return image if image.dtype == np.uint8 else ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)


class Finished(NamedTuple):
    """A source in the journal: size and time of change (ns) of its files when they were read; entries in each store."""

    files: list[list[int]]
    stores: list[list[Entry]]


class Journal:
    """What was finished: a line per source image with its entries in each store, after a line of settings.

    A line counts once it is complete, and is written after the values that it lists. A source is in it with all its
    values or not at all; of several lines on a source the last counts.

    Args:
        path: the file; made if it is not there.
        settings: what the values depend on besides the sources.

    Raises:
        InputError: where the journal was begun with other settings or cannot be read.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.sources: dict[str, Finished] = {}
        self._pending: list[str] = []
        self._file = path.open('a+b')
        self._file.seek(0)
        content = self._file.read()
        complete = content[: content.rfind(b'\n') + 1]  # the last line may have been cut by a kill
        self._file.truncate(len(complete))
        try:
            header, *lines = [json.loads(line) for line in complete.splitlines()] or [None]
            for line in lines:
                stores = [[Entry(name, tuple(shape), *rest) for name, shape, *rest in own] for own in line['stores']]
                self.sources[line['source']] = Finished(line['files'], stores)
        except (ValueError, TypeError, KeyError):
            self._file.close()
            raise InputError(
                f'{path}: damaged, or of an earlier version without checksums; remove {path.parent} and begin anew'
            ) from None
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
        self.sources = {source: finished for source, finished in self.sources.items() if finished.stores}

    def add(self, source: str, finished: Finished) -> None:
        """A finished source; it counts after ``sync``."""
        self.sources[source] = finished
        self._pending.append(_json({'source': source, **finished._asdict()}))

    def drop(self, source: str) -> None:
        """A source that is gone, or can no longer be read."""
        del self.sources[source]
        self._pending.append(_json({'source': source, **Finished([], [])._asdict()}))

    def entries(self, store: int) -> list[Entry]:
        """What is finished in one of the stores."""
        return [entry for finished in self.sources.values() for entry in finished.stores[store]]

    def sync(self) -> None:
        """Write what was added, after the stores were synchronised."""
        text = ''.join(f'{line}\n' for line in self._pending)
        self._file.write(text.encode(errors='backslashreplace'))  # JSON's own way to write bytes that are not UTF-8
        self._file.flush()
        os.fsync(self._file.fileno())
        self._pending.clear()

    def close(self) -> None:
        self._file.close()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
