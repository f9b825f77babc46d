"""The store in a folder, found by what lies in it."""

from pathlib import Path

from ne_basicsr.data.image_store import RAW_FILE, FolderStore, ImageStore, LmdbStore, RawStore
from ne_basicsr.utils.errors import InputError


def open_any(path: Path) -> ImageStore:
    """A raw store, an LMDB, or else a folder of image files.

    Raises:
        InputError: where there is no such folder, or no image in it.
    """
    path = path.expanduser()
    if not path.is_dir():
        raise InputError(f'{path}: no such folder of images, and no LMDB')
    if (path / RAW_FILE).is_file():
        return RawStore(path)
    return LmdbStore(path) if (path / 'data.mdb').is_file() else FolderStore(path)
