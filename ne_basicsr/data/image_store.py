"""Where images come from: a folder, or an LMDB in BasicSR's layout; names in, arrays out."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import cv2
import lmdb
import numpy as np
from numpy.typing import NDArray

from ne_basicsr.errors import InputError

SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm')


class ImageStore(Protocol):
    """Encoded images by name. A name is the same whether the image lies in a folder or in an LMDB made from it."""

    root: Path
    names: list[str]

    def read(self, name: str) -> bytes: ...


class FolderStore:
    """Image files below a folder; a name is the path from there, without its suffix unless two differ in that alone."""

    def __init__(self, root: Path, meta_info_file: str | None = None) -> None:
        self.root = root
        if meta_info_file is None:
            found = sorted(p.relative_to(root) for p in root.rglob('*') if p.suffix.lower() in SUFFIXES)
            files = [p for p in found if not any(part.startswith('.') for part in p.parts)]
        else:
            files = [Path(line.rsplit(' (', 1)[0]) for line in _lines(Path(meta_info_file))]
        if not files:
            raise InputError(f'{root}: no images found (looked for {", ".join(SUFFIXES)})')
        stems = Counter(p.with_suffix('') for p in files)
        self._files = {(p if stems[p.with_suffix('')] > 1 else p.with_suffix('')).as_posix(): p for p in files}
        self.names = list(self._files)

    def read(self, name: str) -> bytes:
        path = self.root / self._files[name]
        try:
            return path.read_bytes()
        except OSError as error:
            raise InputError(f'{path}: {error.strerror}') from error


class LmdbStore:
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

    def _environment(self) -> lmdb.Environment:
        # A process may open an LMDB once only; opened at first use, hence after the workers were started.
        path = self.root.resolve()
        if path not in self._environments:
            self._environments[path] = lmdb.open(str(path), readonly=True, lock=False, readahead=False, meminit=False)
        return self._environments[path]


def open_store(options: Mapping[str, Any]) -> ImageStore:
    """The store that a data set's ``dataroot_gt``, ``io_backend`` and ``meta_info_file`` name.

    Raises:
        InputError: where it is missing or empty.
    """
    root = Path(options['dataroot_gt']).expanduser()
    if not root.is_dir():
        raise InputError(f'{root}: no such folder')
    kind = LmdbStore if options['io_backend']['type'] == 'lmdb' else FolderStore
    return kind(root, options.get('meta_info_file'))


def decode(data: bytes, channels: int, name: str) -> NDArray[np.float32]:
    """An encoded image as (H, W, C) on [0, 1], gray (C = 1) or RGB (C = 3), of 8 or 16 bits or float.

    Raises:
        InputError: for data that is not a complete image.
    """
    flag = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB
    buffer = np.frombuffer(data, np.uint8)
    image = cv2.imdecode(buffer, flag | cv2.IMREAD_ANYDEPTH) if buffer.size else None
    if image is None:
        raise InputError(f'{name}: not a readable image ({len(data)} bytes)')
    scale = np.iinfo(image.dtype).max if np.issubdtype(image.dtype, np.integer) else 1
    return (image.astype(np.float32) / np.float32(scale)).reshape(*image.shape[:2], channels)


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding='utf-8').splitlines() if line.strip()]
    except OSError as error:
        raise InputError(f'{path}: {error.strerror}') from error
