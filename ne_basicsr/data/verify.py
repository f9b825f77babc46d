"""Whether the images of a store are still those that were written."""

from pathlib import Path
from typing import NamedTuple

from ne_basicsr.data.any_store import open_any
from ne_basicsr.data.image_store import LmdbStore, RawStore, decode_pixels
from ne_basicsr.data.store_index import INDEX, read_index
from ne_basicsr.utils.errors import InputError


class Verdict(NamedTuple):
    """The number of images that a store lists, a line for each that is damaged, and whether it has checksums."""

    images: int
    damaged: list[str]
    has_checksums: bool


def stores_in(path: Path) -> list[Path]:
    """The store in a folder or, as ``prepare --sidd`` writes them, those in the folders below it.

    Raises:
        InputError: where there is none.
    """
    found = [path] if (path / INDEX).is_file() else sorted(index.parent for index in path.glob(f'*/{INDEX}'))
    if not found:
        raise InputError(f'{path}: no store, as it holds no {INDEX}; basicsr prepare makes one')
    return found


def verify(root: Path) -> Verdict:
    """Read all images of a store; where it has no checksums, whether they can be decoded and have the listed size.

    Raises:
        InputError: where the store as a whole cannot be read.
    """
    store = open_any(root)
    entries = read_index(root, 'raw' if isinstance(store, RawStore) else 'png')
    damaged = []
    for name, shape, _, _ in entries:
        try:
            if isinstance(store, LmdbStore):
                image = decode_pixels(store.read(name), None, f'{root}/{name}')
                if any(shape) and image.shape[:2] != shape[:2]:
                    raise InputError(f'{root}/{name}: {image.shape[0]}x{image.shape[1]}, where {INDEX} says {shape}')
            else:
                store.pixels(name, shape[2])
        except InputError as error:
            damaged.append(str(error))
    return Verdict(len(entries), damaged, entries[0].checksum is not None)
