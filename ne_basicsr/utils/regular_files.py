"""Reading regular files only: reading a pipe may wait, and reading a device may never end."""

from pathlib import Path

from ne_basicsr.utils.errors import InputError


def read(path: Path, most: int = -1) -> bytes:
    """The content of a file, at most ``most`` bytes of it if that is given.

    Raises:
        InputError: for a path that is neither a regular file nor a folder.
        OSError: if it cannot be read.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(f'{path}: not a regular file; remove it, or name another')
    with path.open('rb') as file:
        return file.read(most)
