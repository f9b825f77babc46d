"""Reading files that end: a pipe would be waited for, and a device may never end."""

from pathlib import Path

from ne_basicsr.utils.errors import InputError


def read(path: Path, most: int = -1) -> bytes:
    """The content of a file, at most ``most`` bytes of it where that is given.

    Raises:
        InputError: for what is there and is neither a regular file nor a folder.
        OSError: where it cannot be read.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(f'{path}: not a regular file; remove it, or name another')
    with path.open('rb') as file:
        return file.read(most)
