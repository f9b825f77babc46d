"""``meta_info.txt``, the index of a store: names, places, number and checksums of its images.

One line per image, in an LMDB and in a raw store::

    name.png (h,w,c) 1 crc32 1a2b3c4d 3/20
    name.raw (h,w,c) uint8 90000 crc32 1a2b3c4d 3/20

Each line has the level of compression or the offset in bytes, the checksum, the number of the line and of all lines.
BasicSR reads only the name. Its own indexes, and those of earlier versions, end before ``crc32``. The checksum covers
the name, the shape and the value, so that each line can be checked by itself.
"""

import mmap
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ne_basicsr.utils import atomic_files
from ne_basicsr.utils.errors import InputError

INDEX = 'meta_info.txt'
REMEDY = 'write it again with basicsr prepare --resume, or make the store again'
COMPRESS_LEVEL = 1  # of PNG: BasicSR's

_LINE = re.compile(
    r'(?P<name>.*)\.(?P<kind>png|raw) \((?P<shape>\d{1,9},\d{1,9},\d{1,2})\) (?:uint8 (?P<offset>\d{1,18})|\d{1,2})'
    r'(?P<rest> crc32 (?P<checksum>[0-9a-f]{8}) (?P<number>\d{1,9})/(?P<count>\d{1,9}))?'
)


class StoredImage(NamedTuple):
    """One value of a store: key, shape (h, w, c), offset in a raw file (0 in an LMDB), checksum if there is one."""

    name: str
    shape: tuple[int, int, int]
    offset: int = 0
    checksum: int | None = None


def checksum_of(name: str, shape: Sequence[int], value: bytes | memoryview) -> int:
    """CRC-32 of a name and shape and the bytes stored under them."""
    return zlib.crc32(value, zlib.crc32(f'{name} {",".join(map(str, shape))}'.encode()))


def write_index(folder: Path, kind: str, entries: Sequence[StoredImage]) -> None:
    """Write ``meta_info.txt`` of an LMDB (``kind`` png) or a raw store (raw), as an atomic file."""
    text = ''
    for number, (name, shape, offset, checksum) in enumerate(entries, 1):
        place = f'uint8 {offset}' if kind == 'raw' else COMPRESS_LEVEL
        text += f'{name}.{kind} ({",".join(map(str, shape))}) {place} crc32 {checksum:08x} {number}/{len(entries)}\n'
    atomic_files.write(folder / INDEX, lambda file: file.write(text.encode()))


def read_index(folder: Path, kind: str) -> list[StoredImage]:
    """The entries in the index, neither empty nor cut, of an LMDB (``kind`` png) or a raw store (raw)."""
    path = folder / INDEX
    lines = read_lines(path, whole=True)
    if not lines:
        raise InputError(f'{folder}: its {INDEX} lists no images')
    found = [_LINE.fullmatch(line) for line in lines]
    if kind == 'png' and not any(found):  # of another form: names
        return [StoredImage(line.rsplit(' (', 1)[0].removesuffix('.png'), (0, 0, 0)) for line in lines]
    count = next((match['count'] for match in found if match and match['rest']), None)  # None: an earlier version's
    entries = []
    for number, (line, match) in enumerate(zip(lines, found, strict=True), 1):
        expected = (kind, kind == 'raw', count, count and str(number))
        if not match or (match['kind'], match['offset'] is not None, match['count'], match['number']) != expected:
            raise InputError(f'{path}: cut or changed at line {number}, {line[:80]!r}; {REMEDY}')
        height, width, channels = map(int, match['shape'].split(','))
        checksum = int(match['checksum'], 16) if count else None
        entries.append(StoredImage(match['name'], (height, width, channels), int(match['offset'] or 0), checksum))
    different = len({entry.name for entry in entries})
    if count and int(count) != different:
        raise InputError(f'{path}: lists {different} of {count} images; {REMEDY}')
    return entries


def read_lines(path: Path, whole: bool = False) -> list[str]:
    """The lines of a text file that are not empty; blanks before a name belong to it; if ``whole``, the last ends."""
    try:
        text = atomic_files.read(path).decode()
    except OSError as error:
        raise InputError(f'{path}: {error.strerror}') from error
    except UnicodeDecodeError as error:
        wrong = f'byte {error.start} is {error.object[error.start]:#x}'
        raise InputError(f'{path}: no UTF-8 text: {wrong}; save it as UTF-8') from error
    lines = [line.rstrip() for line in text.split('\n') if line.strip()]
    if whole and lines and not text.endswith('\n'):
        raise InputError(f'{path}: cut in its last line, {lines[-1][:80]!r}; {REMEDY}')
    return lines


class Checked:
    """Compares each image of a store with its checksum on first use, once for all forked workers (a shared map)."""

    def __init__(self, root: Path, entries: Sequence[StoredImage]) -> None:
        self.root = root
        self._entries = {entry.name: (i, entry) for i, entry in enumerate(entries)}
        self._done = mmap.mmap(-1, max(1, len(entries)))

    def check(self, name: str, value: bytes | memoryview) -> None:
        """Raise InputError if ``value`` is not what was written under ``name``."""
        number, entry = self._entries.get(name, (0, None))
        if entry is None or entry.checksum is None or self._done[number]:
            return
        if checksum_of(name, entry.shape, value) != entry.checksum:
            raise InputError(f'{self.root}/{name}: damaged since it was written (checksum); make the store again')
        self._done[number] = 1
