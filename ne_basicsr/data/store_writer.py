"""Writing image stores so that a kill at any moment loses nothing that was reported as written."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import cv2
import lmdb
import numpy as np

from ne_basicsr.data.image_store import RAW_FILE, Image
from ne_basicsr.data.store_index import COMPRESS_LEVEL, StoredImage
from ne_basicsr.utils.errors import InputError

LONGEST_KEY = 511  # bytes, LMDB's limit
JOURNAL = 'prepare.jsonl'


class LmdbWriter:
    """BasicSR's layout: PNG values under their names, in a folder; ``entries`` are what it contains already."""

    def __init__(self, path: Path, entries: Iterable[StoredImage] = ()) -> None:
        # the map is a limit, not a size: the file grows with what is written
        self._environment = lmdb.open(os.fsencode(path), map_size=2**40)
        self._transaction = self._environment.begin(write=True)

    def put(self, entry: StoredImage, data: bytes) -> StoredImage:
        """Add a value; returns its entry with its place."""
        self._transaction.put(entry.name.encode(), data)
        return entry

    def sync(self) -> None:
        """Everything that was put is on the disk when this returns."""
        self._transaction.commit()
        self._transaction = self._environment.begin(write=True)

    def keep(self, entries: Iterable[StoredImage]) -> None:
        """Remove the values of sources that are gone or have changed."""
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
    """The layout of ``image_store.RawStore``: values one after the other in one file; methods as ``LmdbWriter``'s."""

    def __init__(self, path: Path, entries: Iterable[StoredImage] = ()) -> None:
        self._end = max((entry.offset + int(np.prod(entry.shape)) for entry in entries), default=0)
        self._file = (path / RAW_FILE).open('ab')
        if (size := self._file.seek(0, os.SEEK_END)) < self._end:
            raise InputError(f'{path}/{RAW_FILE}: {size} bytes of {self._end} are left; remove {path} and start again')
        self._file.truncate(self._end)  # what follows belongs to unfinished values

    def put(self, entry: StoredImage, data: bytes) -> StoredImage:
        self._file.write(data)
        placed = entry._replace(offset=self._end)
        self._end += len(data)
        return placed

    def sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def keep(self, entries: Iterable[StoredImage]) -> None:
        pass  # the others stay as bytes that the index does not list

    def close(self) -> None:
        self._file.close()

    @staticmethod
    def encode(image: Image) -> bytes:
        """8-bit pixels unchanged, 16-bit pixels rounded to the nearest of 8 bits."""
        if image.dtype != np.uint8:
            image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
        return image.tobytes()


Writer: TypeAlias = LmdbWriter | RawWriter
WRITERS: dict[str, type[LmdbWriter] | type[RawWriter]] = {'png': LmdbWriter, 'raw': RawWriter}


class Finished(NamedTuple):
    """A source in the journal: size and time of change (ns) of its files when they were read; entries in each store."""

    files: list[list[int]]
    stores: list[list[StoredImage]]


class Journal:
    """What is finished: a line of settings, then a line for each source image with its entries in each store.

    A line counts once it is complete, and is written after the values that it lists. So a source is in the journal with
    all its values or not at all. Of several lines about a source, the last one counts. ``settings`` are everything that
    the values depend on besides the sources; an ``InputError`` if the journal was started with others.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        content = path.read_bytes() if path.exists() else b''
        complete = content[: content.rfind(b'\n') + 1]  # a kill may have cut the last line
        self.sources: dict[str, Finished] = {}
        try:
            header, *lines = [json.loads(line) for line in complete.splitlines()] or [settings]
            for line in lines:
                stores = [[StoredImage(name, tuple(shape), *rest) for name, shape, *rest in s] for s in line['stores']]
                self._note(line['source'], Finished(line['files'], stores))
        except (ValueError, TypeError, KeyError):
            problem = 'damaged, or written by an earlier version without checksums'
            raise InputError(f'{path}: {problem}; remove {path.parent} and start again') from None
        for key in {**header, **settings}:
            before, now = (json.dumps(each.get(key), ensure_ascii=False) for each in (header, settings))
            if before != now:
                way_out = 'continue with the same settings, or remove it'
                raise InputError(f'{path.parent}: was started with {key} {before}, not {now}; {way_out}')
        self._pending = [] if complete else [json.dumps(settings)]
        self._file = path.open('ab')
        self._file.truncate(len(complete))
        self.sync()

    def add(self, source: str, finished: Finished) -> None:
        """A finished source, or with no stores one that is gone or can no longer be read; it counts after ``sync``."""
        self._note(source, finished)
        self._pending.append(json.dumps({'source': source, **finished._asdict()}))

    def entries(self, store: int) -> list[StoredImage]:
        """The finished entries of one of the stores."""
        return [entry for finished in self.sources.values() for entry in finished.stores[store]]

    def sync(self) -> None:
        """Write what was added; the stores must be synchronised first."""
        self._file.write(''.join(f'{line}\n' for line in self._pending).encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._pending.clear()

    def close(self) -> None:
        self._file.close()

    def _note(self, source: str, finished: Finished) -> None:
        self.sources[source] = finished
        if not finished.stores:
            del self.sources[source]
