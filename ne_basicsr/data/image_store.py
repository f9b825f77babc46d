"""Image stores: a folder, an LMDB in BasicSR's layout, a raw store, SIDD's .mat files; they turn names into arrays."""

import io
import logging
import math
import os
from collections import Counter
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias

import cv2
import lmdb
import numpy as np
import PIL.Image
import scipy  # which imports scipy.io when it is used
from numpy.typing import NDArray

from ne_basicsr.data.stacks import page_count
from ne_basicsr.data.store_index import INDEX, REMEDY, Checked, read_index, read_lines
from ne_basicsr.utils.errors import InputError
from ne_basicsr.utils.file_names import printable
from ne_basicsr.utils.words import similar_path

SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm')
RAW_FILE, LMDB_FILE = 'images.raw', 'data.mdb'

Image: TypeAlias = NDArray[Any]  # (H, W, C) of uint8, uint16 or float32, RGB if C is 3


class ImageStore(Protocol):
    """Images by name."""

    root: Path
    names: list[str]

    def pixels(self, name: str, channels: int) -> Image:
        """An image with its stored depth, gray (1 channel) or RGB (3), read-only; an ``InputError`` if unreadable."""
        ...


class FolderStore:
    """Image files below a folder; a name is the relative path, ``printable``, without the suffix if it stays unique."""

    def __init__(self, root: Path, meta_info_file: str | None = None) -> None:
        self.root = root
        if meta_info_file is None:
            files = image_files(root)
        else:
            files = [Path(name) for name in _chosen(meta_info_file)]
            if missing := [file for file in files if not (root / file).is_file()]:
                raise InputError(f'{meta_info_file}: {str(missing[0])!r} is not in {root}')
        if not files:
            raise InputError(f'{root}: no images found (looked for {", ".join(SUFFIXES)})')
        stems = Counter(p.with_suffix('') for p in files)
        named = {(p if stems[p.with_suffix('')] > 1 else p.with_suffix('')).as_posix(): p for p in files}
        self._files = {printable(name): path for name, path in named.items()}
        self.names = list(self._files)

    def path(self, name: str) -> Path:
        """The file of an image."""
        return self.root / self._files[name]

    def read(self, name: str) -> bytes:
        """The content of the file of an image."""
        return read_file(self.path(name))

    def pixels(self, name: str, channels: int) -> Image:
        return decode_pixels(self.read(name), channels, f'{self.root}/{name}')


class LmdbStore:
    """An LMDB folder in BasicSR's layout: PNGs by their names; the index is that of ``store_index``, or BasicSR's."""

    _environments: ClassVar[dict[Path, lmdb.Environment]] = {}

    def __init__(self, root: Path, meta_info_file: str | None = None) -> None:
        self.root, self._meta_info_file = root, meta_info_file
        entries = [] if meta_info_file and not (root / INDEX).is_file() else read_index(root, 'png')
        self._checked = Checked(root, entries)
        self.names = [entry.name for entry in entries]
        if meta_info_file:
            self.names = [name.removesuffix('.png') for name in _chosen(meta_info_file)]
        # an index of BasicSR does not record the number of images
        if not meta_info_file and entries[0].checksum is None and (root / LMDB_FILE).is_file():
            was_open = self.root.resolve() in self._environments
            held = self._environment().stat()['entries']
            if not was_open:  # forked workers open it themselves
                self.close()
            if held > len(entries):
                about = f'holds {held} images, of which its {INDEX} lists {len(entries)}: the others are not used'
                logging.getLogger('basicsr').warning(f'{root}: {about}')

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.root, self._meta_info_file)

    def read(self, name: str) -> bytes:
        """The encoded image, compared with its checksum on first use."""
        with self._environment().begin() as transaction:
            value = transaction.get(name.encode())
        if value is None:
            raise InputError(f'{self.root}: no entry {name!r}, which its {INDEX} lists; make the LMDB again')
        self._checked.check(name, value)
        return value

    def pixels(self, name: str, channels: int) -> Image:
        return decode_pixels(self.read(name), channels, f'{self.root}/{name}')

    def close(self) -> None:
        """Close the LMDB in this process, for all its readers, so that it can be written; reading opens it again."""
        if environment := self._environments.pop(self.root.resolve(), None):
            environment.close()

    def _environment(self) -> lmdb.Environment:
        # A process may open an LMDB only once; it is opened at first use, hence after the workers were started.
        path = self.root.resolve()
        if path not in self._environments:
            try:
                environment = lmdb.open(os.fsencode(path), readonly=True, lock=False, readahead=False, meminit=False)
            except lmdb.Error as error:
                raise InputError(f'{self.root}: not an LMDB that can be read ({error})') from error
            needed = (environment.info()['last_pgno'] + 1) * environment.stat()['psize']
            size = (path / LMDB_FILE).stat().st_size
            if size < needed:  # reading beyond the end of a mapped file kills the process
                environment.close()
                raise InputError(f'{self.root}: {LMDB_FILE} was cut to {size:,} bytes of {needed:,}; make it again')
            self._environments[path] = environment
        return self._environments[path]


class RawStore:
    """Uncompressed 8-bit pixels: ``images.raw``, one memory map for all images, rows from the top, RGB interleaved.

    The index (``store_index``) has the offset of each image in bytes. Reading an image needs no decoding and no copy;
    after the first use, which compares the checksum, pixels outside a crop are not even read from the disk.
    """

    def __init__(self, root: Path, meta_info_file: str | None = None) -> None:
        self.root = root
        entries = read_index(root, 'raw')
        self._places = {entry.name: (entry.shape, entry.offset) for entry in entries}
        chosen = _chosen(meta_info_file) if meta_info_file else ()
        self.names = [Path(name).with_suffix('').as_posix() for name in chosen] or [*self._places]
        if missing := [name for name in self.names if name not in self._places]:
            raise InputError(f'{meta_info_file}: {missing[0]!r} is not in {root}')
        self._meta_info_file = meta_info_file
        self._checked = Checked(root, entries)
        try:
            self._map = np.memmap(root / RAW_FILE, np.uint8, 'r').view(np.ndarray)  # slices of a memmap are slow
        except (OSError, ValueError) as error:
            raise InputError(f'{root}/{RAW_FILE}: {getattr(error, "strerror", None) or error}') from error
        # images are inside the file and, without checksums, fill it one after the other
        size, end = self._map.size, 0
        for name, (height, width, channels), offset, checksum in sorted(entries, key=lambda entry: entry.offset):
            if min(height, width) < 1 or channels not in (1, 3) or (checksum is None and offset != end):
                raise InputError(f'{root}/{INDEX}: the place or shape of {name!r} cannot be; {REMEDY}')
            end = max(end, offset + height * width * channels)
        if size < end or (entries[0].checksum is None and size > end):
            raise InputError(f'{root}/{RAW_FILE}: {size} bytes, but {INDEX} lists {end}; {REMEDY}')

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.root, self._meta_info_file)  # a worker that does not fork maps the file itself

    def pixels(self, name: str, channels: int) -> Image:
        shape, offset = self._places[name]
        image: Image = np.ndarray(shape, np.uint8, self._map, offset)
        self._checked.check(name, image.data)
        if shape[2] == channels:
            return image
        return np.broadcast_to(image, (*shape[:2], 3)) if channels == 3 else with_channels(image, 1)


class MatStore:
    """The one array (images, blocks, H, W, 3) of uint8 in a ``.mat`` file up to version 7, such as SIDD's blocks.

    ``ValidationNoisyBlocksSrgb.mat`` holds 40 x 32 blocks of 256x256, 251 MB; block 3 of image 2 is called ``0002_03``.
    The shape is in the header; the array is read with the first block.
    """

    def __init__(self, file: Path) -> None:
        self.root = file
        try:
            contents = scipy.io.whosmat(str(file), appendmat=False)
        except (OSError, ValueError, TypeError, NotImplementedError, scipy.io.matlab.MatReadError) as error:
            reason = getattr(error, 'strerror', None) or 'not a MATLAB file of version 7 or earlier'
            raise InputError(f'{file}: {reason}') from error
        blocks = [(name, shape) for name, shape, _ in contents if len(shape) == 5 and shape[-1] == 3]
        if len(blocks) != 1:
            found = ', '.join(f'{name} {tuple(shape)}' for name, shape, _ in contents) or 'nothing'
            raise InputError(f'{file}: one array (images, blocks, height, width, 3) is needed, as of SIDD; got {found}')
        (self._variable, shape), *_ = blocks
        self._places = {f'{i + 1:04}_{b + 1:02}': (i, b) for i in range(shape[0]) for b in range(shape[1])}
        self.names = list(self._places)

    def pixels(self, name: str, channels: int) -> Image:
        return with_channels(np.ascontiguousarray(self._blocks[self._places[name]]), channels)

    @cached_property
    def _blocks(self) -> NDArray[np.uint8]:
        try:
            array = scipy.io.loadmat(str(self.root), variable_names=[self._variable], appendmat=False)[self._variable]
        except (OSError, ValueError, TypeError, EOFError, scipy.io.matlab.MatReadError) as error:
            raise InputError(f'{self.root}: {self._variable} cannot be read ({error}); download it again') from error
        if array.dtype != np.uint8:
            raise InputError(f'{self.root}: {self._variable} must hold uint8; got {array.dtype}')
        return array


def open_store(root: str | Path, backend: str = 'disk', meta_info_file: str | None = None) -> ImageStore:
    """The store of a data set, by its files and by ``io_backend: {type: ...}``, from its ``dataroot_gt``."""
    root = Path(root).expanduser()
    if not root.is_dir():
        raise InputError(f'{root}: no such folder of images, and no LMDB{similar_path(root)}')
    # its files say what a folder is, whatever the options and its name say
    if backend == 'raw' or (root / RAW_FILE).is_file():
        return RawStore(root, meta_info_file)
    is_lmdb = backend == 'lmdb' or (root / LMDB_FILE).is_file()
    return LmdbStore(root, meta_info_file) if is_lmdb else FolderStore(root, meta_info_file)


class ScaledStore:
    """The images of another store as float32, divided by ``data_range``, the value of white."""

    def __init__(self, store: ImageStore, data_range: float) -> None:
        if not 0 < data_range < math.inf:
            raise InputError(f'the data range, the value of white, must be above 0; got {data_range:g}')
        self.root, self.names, self._store, self._data_range = store.root, store.names, store, data_range

    def pixels(self, name: str, channels: int) -> Image:
        return on_unit_range(self._store.pixels(name, channels), self._data_range, f'{self.root}/{name}')


def open_any(path: Path, data_range: float | None = None) -> ImageStore:
    """``open_store`` of a folder, recognized by its files; a ``ScaledStore`` with a range."""
    return open_store(path) if data_range is None else ScaledStore(open_store(path), data_range)


def verify(root: Path) -> tuple[int, list[str], bool]:
    """The number of images that a store lists, a line for each that is damaged, and whether it has checksums."""
    store = open_any(root)
    entries = read_index(root, 'raw' if isinstance(store, RawStore) else 'png')
    damaged = []
    for name, shape, _, _ in entries:
        try:
            size = store.pixels(name, 3).shape[:2]
            if any(shape) and size != shape[:2]:
                raise InputError(f'{root}/{name}: {size[0]}x{size[1]}, but {INDEX} says {shape}')
        except InputError as error:
            damaged.append(str(error))
    return len(entries), damaged, entries[0].checksum is not None


def _chosen(meta_info_file: str) -> list[str]:
    """The names that the lines of a file begin with, as in BasicSR's ``meta_info_file``."""
    if names := [line.rsplit(' (', 1)[0] for line in read_lines(Path(meta_info_file))]:
        return names
    raise InputError(f'{meta_info_file}: lists no images')


def image_files(root: Path) -> list[Path]:
    """Image files below a folder, relative to it, sorted, without hidden ones; linked folders are entered once."""

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
    """A file's content; an ``InputError`` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f'{path}: {error.strerror}{similar_path(path)}') from error


def decode(data: bytes, channels: int, name: str) -> NDArray[np.float32]:
    """``decode_pixels`` as float32 on [0, 1]."""
    return on_unit_range(decode_pixels(data, channels, name))


def decode_pixels(data: bytes, channels: int | None, name: str) -> Image:
    """One complete encoded image with its own depth; gray, RGB or, if ``channels`` is None, with its own channels."""
    if data[:4] != b'RIFF' and b'acTL' not in data[:4096]:
        pages = page_count(io.BytesIO(data), name)
    else:  # a WebP or PNG that may be animated
        pages = 1
        with suppress(Exception), PIL.Image.open(io.BytesIO(data)) as image:  # the decoder below reports the problem
            pages = getattr(image, 'n_frames', 1)
    if pages > 1:
        way_out = 'save the one that is meant on its own, or all of a TIFF with basicsr prepare'
        raise InputError(f'{name}: holds {pages} pages or frames; {way_out}')
    buffer, pixels, reason = np.frombuffer(data, np.uint8), None, ''
    try:
        pixels = cv2.imdecode(buffer, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH) if buffer.size else None
    except cv2.error as error:  # more pixels than OpenCV allows
        reason = f'; {error.err}'
    if pixels is None:
        raise InputError(f'{name}: not a readable image ({len(data)} bytes{reason})')
    if pixels.dtype.kind == 'f' and not np.isfinite(pixels).all():
        raise InputError(f'{name}: has values that are not finite')
    pixels = pixels.astype(np.float32) if pixels.dtype == np.float64 else pixels
    return with_channels(pixels[..., None] if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), channels)


def with_channels(image: Image, channels: int | None) -> Image:
    """Gray or RGB (H, W, 1 or 3) as gray (1 channel) or RGB (3), or with its own channels."""
    if image.shape[2] == (channels or image.shape[2]):
        return image
    if channels == 3:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    # luma, 0.299 R + 0.587 G + 0.114 B, rounded as by rgb2gray of MATLAB; the PNG decoder would cut the fraction off
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]


def on_unit_range(image: Image, data_range: float | None = None, name: str = 'the image') -> NDArray[np.float32]:
    """Pixels as float32, divided by ``data_range`` or, without one, integers by the largest number of their type."""
    if data_range is None:
        data_range = np.iinfo(image.dtype).max if np.issubdtype(image.dtype, np.integer) else 1
    elif image.dtype.kind == 'u' and image.max(initial=0) > data_range:
        raise InputError(f'{name}: holds {image.max()}, more than data_range: {data_range:g}, which is for white')
    return image.astype(np.float32) / np.float32(data_range)
