"""One run at a time writes to a folder, on this machine or over a network file system.

Guaranteed: the system's lock (``flock``) on a small file ends with the process that holds it, so a killed run can be
continued at once. Linux extends it over NFS, and over Lustre, CephFS and the like if they are mounted so. If it ends at
the machine (``local_lock``, ``localflock``), or there is none, the file itself is the lock: it names host, process and
time, and its holder touches it every ``PERIOD`` seconds. A file that another machine left is taken over after
``PATIENCE`` seconds without a touch. Nothing then separates two machines that start at the same moment.

Why not filelock: its ``FileLock`` relies on ``flock`` alone if there is one; its ``SoftFileLease`` on the touched
file alone, and it waits its full time for a holder on another machine that ended long ago. This is both.
"""

import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ne_basicsr.utils.errors import InputError

PERIOD = 5.0
PATIENCE = 20.0

_descriptors: set[int] = set()  # of the files that this process holds


@contextmanager
def hold(folder: Path, way_out: str, beside: bool = False) -> Iterator[None]:
    """Be the only run that writes to ``folder``, which is created if it does not exist, or raise an ``InputError``.

    Args:
        way_out: what to do instead of waiting, for the message: ``choose another name``.
        beside: whether the lock file is beside the folder, which may then be renamed, instead of in it.
    """
    inside, outside = folder / '.lock', folder.with_name(f'.{folder.name}.lock')
    path, other = (outside, inside) if beside else (inside, outside)
    if other.exists():  # such as that of a training, if results are written to its run folder
        _release(other, _take(other, folder, way_out))
    made = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _take(path, folder, way_out)
        over = threading.Event()

        def touch() -> None:
            while not over.wait(PERIOD):
                with suppress(OSError):
                    if _is_at(path, descriptor):
                        os.utime(path)

        thread = threading.Thread(target=touch, name='folder lock', daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            if descriptor in _descriptors:  # not so in a forked process
                _release(path, descriptor)
    finally:
        for parent in made:
            with suppress(OSError):  # it is not empty: the run wrote something
                parent.rmdir()


def _take(path: Path, folder: Path, way_out: str) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        _descriptors.add(descriptor)
        try:
            lent, holder = _lock(descriptor), _read(descriptor)
            ended = lent and holder.get('host') == platform.node()
            if lent is False or (holder and not ended and _is_touched(path, descriptor)):
                who = 'process {pid} on {host} writes to it since {since}' if holder else 'another process writes to it'
                raise InputError(f'{folder}: {who.format(**holder)}; wait for its end, or {way_out}')
            if _is_at(path, descriptor):
                own = {'host': platform.node(), 'pid': os.getpid(), 'since': time.strftime('%Y-%m-%d %H:%M:%S')}
                os.ftruncate(descriptor, 0)
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.write(descriptor, json.dumps(own).encode())
                return descriptor
        except BaseException:
            _close(descriptor)
            raise
        _close(descriptor)  # who held it has removed the file meanwhile


def _release(path: Path, descriptor: int) -> None:
    with suppress(OSError):
        os.ftruncate(descriptor, 0)  # for systems that remove no open file
        if _is_at(path, descriptor):
            path.unlink()
    _close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Whether the system grants its lock; None if it has none."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True


def _is_touched(path: Path, descriptor: int) -> bool:
    """Whether another process still touches the file; all times are the file system's own."""

    def touched() -> float:
        with open(path, 'rb') as file:  # NFS asks its server when a file is opened, and may not otherwise
            return os.fstat(file.fileno()).st_mtime

    before = os.fstat(descriptor).st_mtime
    os.utime(path)
    last = touched()
    end = time.monotonic() + (PATIENCE if last - before < PATIENCE else 0)
    while time.monotonic() < end:
        time.sleep(PERIOD / 10)
        if touched() != last:
            return True
    return False


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _read(descriptor: int) -> dict[str, str]:
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        content = json.loads(os.read(descriptor, 4096))
    except ValueError:  # empty: its holder is about to write
        return {}
    return content if isinstance(content, dict) and {'host', 'pid', 'since'} <= set(content) else {}


def _close(descriptor: int) -> None:
    _descriptors.discard(descriptor)
    os.close(descriptor)


def _let_go() -> None:
    while _descriptors:
        os.close(_descriptors.pop())


if hasattr(os, 'register_at_fork'):
    # a loader's worker would otherwise keep the lock of a run that was killed
    os.register_at_fork(after_in_child=_let_go)
