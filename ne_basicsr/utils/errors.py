"""The exceptions for errors that a user can cause, and the message and exit code of a program that ends in one."""

import signal
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class InputError(ValueError):
    """Wrong input, in one line: the rule, the value, the way out. The command line prints it and exits with code 2."""


Key = tuple[str, ...]  # ('train', 'optim_g') for optim_g in the section train of an option file


def leaves(value: Any, key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """(key, value) of everything in sections and lists that is neither; items of a list have its key."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from leaves(item, (*key, name))
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, key)
    else:
        yield key, value


class OptionError(Exception):
    """One wrong option: its key and what is wrong with it."""

    def __init__(self, key: Key, problem: str) -> None:
        super().__init__(':'.join(key), problem)
        self.key, self.problem = key, problem


class Stopped(Exception):
    """Training stopped because of a signal, and everything is saved."""

    def __init__(self, number: int, iteration: int) -> None:
        where = f'stopped after iteration {iteration}, which is saved; --auto_resume continues from it'
        super().__init__(f'{signal.Signals(number).name}: {where}')
        self.exit_code = 128 + number


@contextmanager
def explained_writing(
    path: Path, way_out: str, what: str = '', only: Container[int | None] | None = None
) -> Iterator[None]:
    """Turn an ``OSError`` inside, or one of the numbers ``only``, into an ``InputError`` about ``what`` in ``path``."""
    try:
        yield
    except OSError as error:
        if only is not None and error.errno not in only:
            raise
        subject = f'{error.filename or path}: {what}'.rstrip()
        raise InputError(f'{subject} cannot be written ({error.strerror}); {way_out}') from error


def exit_code(error: BaseException) -> int | None:
    """2 for errors that a user can mend, 128 + the signal for a run that was asked to stop, None for a bug."""
    if isinstance(error, Stopped):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return 130
    # a file that the system cannot open or write: no permission, no space, a folder of that name
    is_about_a_file = isinstance(error, OSError) and error.filename is not None
    return 2 if isinstance(error, (InputError, ImportError)) or is_about_a_file else None


def first_line(error: BaseException) -> str:
    """The first line of the message, for errors of libraries with longer ones."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).removesuffix(', but expected one of:')


def one_line(text: object) -> str:
    """``text`` without line breaks, cut after 1,000 characters: text from a file may be anything."""
    return ' '.join(str(text).split())[:1000]


def last_line(error: BaseException) -> str:
    """The message in one line; an error from a loader's worker has the worker's traceback in its text."""
    if isinstance(error, KeyboardInterrupt):
        return 'interrupted'
    if isinstance(error, OSError) and error.filename is not None:
        return f'{error.filename2 or error.filename}: {error.strerror}'
    line = next(iter(reversed(str(error).strip().splitlines())), type(error).__name__)
    for name in (f'{InputError.__module__}.{InputError.__name__}: ', 'ImportError: '):
        line = line.removeprefix(name)
    return line
