"""The exceptions for what a user can cause, and what a program says and returns when it ends in one."""

import signal


class InputError(ValueError):
    """Wrong input: an option, a path, a file. The message is one line: the rule, what was given, the way out.

    The command line prints it without a traceback and exits with code 2.
    """


class Stopped(Exception):
    """Training stopped because of a signal, and everything is saved."""

    def __init__(self, number: int, iteration: int) -> None:
        name = signal.Signals(number).name
        super().__init__(f'{name}: stopped after iteration {iteration}, which is saved; --auto_resume goes on from it')
        self.exit_code = 128 + number


def exit_code(error: BaseException) -> int | None:
    """2 for what a user can mend, 128 + the signal for a run that was asked to stop, None for a bug."""
    if isinstance(error, Stopped):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 2 if isinstance(error, (InputError, ImportError)) or _is_about_a_file(error) else None


def first_line(error: BaseException) -> str:
    """The first line of the message, for errors of libraries that say more."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def one_line(text: object) -> str:
    """``text`` without line breaks, cut after 1,000 characters: what comes from a file may be anything."""
    return ' '.join(str(text).split())[:1000]


def last_line(error: BaseException) -> str:
    """The message in one line; an error from a loader's worker carries the worker's traceback in its text."""
    if isinstance(error, KeyboardInterrupt):
        return 'interrupted'
    if isinstance(error, OSError) and _is_about_a_file(error):
        return f'{error.filename2 or error.filename}: {error.strerror}'
    line = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    for name in (f'{InputError.__module__}.{InputError.__name__}: ', 'ImportError: '):
        line = line.removeprefix(name)
    return line


def _is_about_a_file(error: BaseException) -> bool:
    """A file that the system cannot open or write: no permission, no space, a folder of that name."""
    return isinstance(error, OSError) and error.filename is not None
