"""Where images come from: a folder, an LMDB in BasicSR's layout, or a raw store; names in, arrays out."""

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias

import cv2
import lmdb
import numpy as np
from numpy.typing import NDArray

from ne_basicsr.errors import InputError

SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm')
RAW_FILE = 'images.raw'

Image: TypeAlias = NDArray[Any]
"""(H, W, C) of uint8, uint16 or float32, RGB where C is 3."""


class ImageStore(Protocol):
    """Images by name."""

    root: Path
    names: list[str]

    def pixels(self, name: str, channels: int) -> Image:
        """An image as it is stored, gray (1 channel) or RGB (3), not to be written to.

        Raises:
            InputError: where it is missing or unreadable.
        """
        ...


class EncodedStore(ABC):
    """Images as files, in whatever format OpenCV reads."""

    root: Path
    names: list[str]

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The file."""

    def pixels(self, name: str, channels: int) -> Image:
        return decode_pixels(self.read(name), channels, f'{self.root}/{name}')


class FolderStore(EncodedStore):
    """Image files below a folder; a name is the path from there, without its suffix unless two differ in that alone."""

    def __init__(self, root: Path, meta_info_file: str | None = None) -> None:
        self.root = root
        if meta_info_file is None:
            files = image_files(root)
        else:
            files = [Path(line.rsplit(' (', 1)[0]) for line in _lines(Path(meta_info_file))]
            if missing := [file for file in files if not (root / file).is_file()]:
                raise InputError(f'{meta_info_file}: {str(missing[0])!r} is not in {root}')
        if not files:
            raise InputError(f'{root}: no images found (looked for {", ".join(SUFFIXES)})')
        stems = Counter(p.with_suffix('') for p in files)
        self._files = {(p if stems[p.with_suffix('')] > 1 else p.with_suffix('')).as_posix(): p for p in files}
        self.names = list(self._files)

    def path(self, name: str) -> Path:
        """Where an image lies."""
        return self.root / self._files[name]

    def read(self, name: str) -> bytes:
        return read_file(self.path(name))


class LmdbStore(EncodedStore):
    """An LMDB folder in BasicSR's layout: ``meta_info.txt`` has lines of ``name.png (h,w,c) level``, keys lack .png."""

    _environments: ClassVar[dict[Path, lmdb.Environment]] = {}

    def __init__(self, root: Path, meta_info_file: str | None = None) -> None:
        self.root = root
        lines = _lines(Path(meta_info_file) if meta_info_file else root / 'meta_info.txt')
        self.names = [line.rsplit(' (', 1)[0].removesuffix('.png') for line in lines]
        if not self.names:
            raise InputError(f'{root}: its meta_info.txt lists no images')

    def read(self, name: str) -> bytes:
        with self._environment().begin() as transaction:
            value = transaction.get(name.encode())
        if value is None:
            raise InputError(f'{self.root}: no entry {name!r}, which its meta_info.txt lists; make the LMDB anew')
        return value

    def close(self) -> None:
        """Close the LMDB in this process, for all who read it, so that it can be written; a read opens it again."""
        if environment := self._environments.pop(self.root.resolve(), None):
            environment.close()

    def _environment(self) -> lmdb.Environment:
        # A process may open an LMDB once only; opened at first use, hence after the workers were started.
        path = self.root.resolve()
        if path not in self._environments:
            try:
                environment = lmdb.open(str(path), readonly=True, lock=False, readahead=False, meminit=False)
            except lmdb.Error as error:
                raise InputError(f'{self.root}: not an LMDB that can be read ({error})') from error
            needed = (environment.info()['last_pgno'] + 1) * environment.stat()['psize']
            size = (path / 'data.mdb').stat().st_size
            if size < needed:  # reading beyond the end of a mapped file would kill the process
                environment.close()
                raise InputError(f'{self.root}: data.mdb was cut: {size:,} bytes of {needed:,} are left; make it anew')
            self._environments[path] = environment
        return self._environments[path]


class RawStore:
    """Pixels of 8 bits as they are: ``images.raw``, one memory map for all images, rows from the top, RGB interleaved.

    ``meta_info.txt`` has lines of ``name.raw (h,w,c) uint8 offset``, the offset in bytes. Reading an image takes no
    decoding and no copy; what a crop leaves out is not even read from the disk.
    """

    def __init__(self, root: Path, meta_info_file: str | None = None) -> None:
        self.root = root
        places = {}
        for line in _lines(root / 'meta_info.txt'):
            name, _, rest = line.rpartition('.raw (')
            shape, _, place = rest.partition(') uint8 ')
            try:
                height, width, channels = map(int, shape.split(','))
                places[name] = ((height, width, channels), int(place))
            except ValueError:
                raise InputError(f'{root}/meta_info.txt: not a line of a raw store: {line[:80]!r}') from None
        chosen = _lines(Path(meta_info_file)) if meta_info_file else None
        self.names = [Path(line.rsplit(' (', 1)[0]).with_suffix('').as_posix() for line in chosen or []] or [*places]
        if not self.names:
            raise InputError(f'{root}: its meta_info.txt lists no images')
        if missing := [name for name in self.names if name not in places]:
            raise InputError(f'{meta_info_file}: {missing[0]!r} is not in {root}')
        self._places = places
        self._meta_info_file = meta_info_file
        try:
            self._map = np.memmap(root / RAW_FILE, np.uint8, 'r').view(np.ndarray)  # slices of a memmap are slow
        except (OSError, ValueError) as error:
            raise InputError(f'{root}/{RAW_FILE}: {getattr(error, "strerror", None) or error}') from error
        needed = max(offset + h * w * c for (h, w, c), offset in places.values())
        if self._map.size < needed:
            raise InputError(
                f'{root}/{RAW_FILE}: {self._map.size} bytes, but meta_info.txt lists {needed}; make it anew'
            )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.root, self._meta_info_file)  # a worker that does not fork maps the file itself

    def pixels(self, name: str, channels: int) -> Image:
        shape, offset = self._places[name]
        image: Image = np.ndarray(shape, np.uint8, self._map, offset)
        if shape[2] == channels:
            return image
        if channels == 3:
            return np.broadcast_to(image, (*shape[:2], 3))
        return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]


def open_store(options: Mapping[str, Any]) -> ImageStore:
    """The store that a data set's ``dataroot_gt``, ``io_backend`` and ``meta_info_file`` name.

    Raises:
        InputError: where it is missing or empty.
    """
    root = Path(options['dataroot_gt']).expanduser()
    if not root.is_dir():
        raise InputError(f'{root}: no such folder')
    backend, meta_info_file = options['io_backend']['type'], options.get('meta_info_file')
    if backend == 'disk':
        return FolderStore(root, meta_info_file)
    # a folder *.lmdb that `basicsr prepare --format raw` wrote is read for what it is
    is_raw = backend == 'raw' or (root / RAW_FILE).is_file()
    return RawStore(root, meta_info_file) if is_raw else LmdbStore(root, meta_info_file)


def image_files(root: Path) -> list[Path]:
    """Image files below a folder, relative to it, sorted; hidden ones left out, linked folders entered once.

    Raises:
        InputError: for a folder that cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise InputError(f'{error.filename}: {error.strerror}')

    found, seen = [], set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=refuse):
        if (real := os.path.realpath(folder)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith('.'))
        found += [Path(folder, name).relative_to(root) for name in files if not name.startswith('.')]
    return sorted(path for path in found if path.suffix.lower() in SUFFIXES)


def read_file(path: Path) -> bytes:
    """A file's content; an ``InputError`` where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f'{path}: {error.strerror}') from error


def decode(data: bytes, channels: int, name: str) -> NDArray[np.float32]:
    """An encoded image as (H, W, C) on [0, 1], gray (C = 1) or RGB (C = 3), of 8 or 16 bits or float.

    Raises:
        InputError: for data that is not a complete image.
    """
    return on_unit_range(decode_pixels(data, channels, name))


def decode_pixels(data: bytes, channels: int | None, name: str) -> Image:
    """An encoded image with the depth that it has; gray or RGB, as it is where ``channels`` is None.

    Raises:
        InputError: for data that is not a complete image.
    """
    flag = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR_RGB, None: cv2.IMREAD_ANYCOLOR}[channels]
    buffer = np.frombuffer(data, np.uint8)
    try:
        image = cv2.imdecode(buffer, flag | cv2.IMREAD_ANYDEPTH) if buffer.size else None
    except cv2.error as error:  # more pixels than OpenCV allows
        raise InputError(f'{name}: not a readable image ({len(data)} bytes; {error.err})') from error
    if image is None:
        raise InputError(f'{name}: not a readable image ({len(data)} bytes)')
    if image.ndim == 2:
        return image[..., None]
    return image if channels == 3 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def on_unit_range(image: Image) -> NDArray[np.float32]:
    """Pixels of any depth as float32, integers divided by their largest."""
    if np.issubdtype(image.dtype, np.integer):
        return image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)
    return image.astype(np.float32)


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding='utf-8').splitlines() if line.strip()]
    except OSError as error:
        raise InputError(f'{path}: {error.strerror}') from error
