"""Files: complete or absent, whenever the process, or the machine, dies; and read only where they are regular."""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ne_basicsr.utils.errors import InputError


def write(path: Path, save: Callable[[Any], object], durable: bool = True) -> None:
    """Write a file; an older one of that name remains until the new one is complete. An ``OSError`` has the path.

    Args:
        save: writes to, and may read from, the open binary file that it is called with.
        durable: survive a crash of the machine, not only of the process: the bytes are on the disk before the name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = os.fsencode(path.name)[:100].decode(errors='ignore')  # of the 255 bytes that names may have
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{name}.', suffix='.part')
    try:
        with os.fdopen(handle, 'w+b') as file:
            save(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes files private
        os.replace(temporary, path)
        if durable and os.name == 'posix':
            descriptor = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        cause: BaseException | None = error  # the system's error behind torch's, who finds an unexpected position
        while cause is not None and not (isinstance(cause, OSError) and cause.errno):
            cause = cause.__cause__ or cause.__context__
        if isinstance(cause, OSError):
            raise OSError(cause.errno, cause.strerror, str(path)) from error
        raise


def read(path: Path, most: int = -1) -> bytes:
    """The content of a file, at most ``most`` bytes of it; an ``InputError`` for a pipe or device, which may wait."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(f'{path}: not a regular file; remove it, or name another')
    with path.open('rb') as file:
        return file.read(most)
