"""Atomic files: complete or absent, whenever the process, or the machine, dies."""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def write(path: Path, save: Callable[[Any], object], durable: bool = True) -> None:
    """Write a file; an older one of that name remains until the new one is complete.

    Args:
        save: writes to the open binary file that it is called with.
        durable: survive a crash of the machine, not only of the process: the bytes are on the disk before the name.

    Raises:
        OSError: if the disk is full or not writable, with the path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = os.fsencode(path.name)[:100].decode(errors='ignore')  # of the 255 bytes that names may have
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{name}.', suffix='.part')
    try:
        with os.fdopen(handle, 'wb') as file:
            save(file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files private
        os.replace(temporary, path)
        if durable:
            _sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        if cause := _error_of_disk(error):
            raise OSError(cause.errno, cause.strerror, str(path)) from error
        raise


def _error_of_disk(error: BaseException | None) -> OSError | None:
    """The system's error behind torch's: its writer reports a full disk as an unexpected position."""
    while error is not None and not (isinstance(error, OSError) and error.errno):
        error = error.__cause__ or error.__context__
    return error


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _sync_folder(folder: Path) -> None:
    if os.name == 'posix':
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
