"""The command line: ``basicsr COMMAND``, one module of this folder each, and how its errors are shown."""

import argparse
import io
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from ne_basicsr import __version__
from ne_basicsr.cli.command import Parser, add_commands
from ne_basicsr.utils.errors import InputError, exit_code, last_line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand: 0 if it succeeds, 2 after one line about an error of the user, 130 after Ctrl-C.

    141 without a word if its reader has ended (``| head``), 128 + the signal for training that stopped and saved.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')  # names of files may be no text
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    try:
        try:
            os.getcwd()
        except OSError as error:  # some libraries of torch end the process if there is none
            raise InputError(f'the current folder is gone ({error.strerror}); change to one that exists') from None
        if names := getattr(options, 'imports', None):
            from ne_basicsr.archs.own_networks import import_own  # it imports BasicSR

            import_own(names)
        result: int = import_module(f'ne_basicsr.cli.{options.module}').run(options)
        sys.stdout.flush()
        return result
    except BaseException as error:
        if isinstance(error, BrokenPipeError) and _has_no_reader():
            return 128 + signal.SIGPIPE
        code = exit_code(error)
        if code is None or (code == 2 and getattr(options, 'debug', False)):
            raise
        print(f'basicsr: {last_line(error)}', file=sys.stderr)
        return code


def _has_no_reader() -> bool:
    """Whether stdout is a pipe that nobody reads any more, as after ``| head``; then what is left of it is dropped."""
    try:
        print(flush=True)  # an empty line before the traceback if it is another pipe
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's exit fails in the same way
        return True
    return False


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog='basicsr',
        description='BasicSR with normalization-equivariant networks: f(a y + b) = a f(y) + b.',
    )
    parser.add_argument('--version', action='version', version=f'ne_basicsr {__version__}')
    add_commands(parser.add_subparsers(title='commands', required=True, metavar='COMMAND'))
    return parser
