"""The command line: ``basicsr COMMAND``, one module of ``commands`` each, and what becomes of its errors."""

import argparse
import sys
from collections.abc import Sequence

from ne_basicsr import __version__
from ne_basicsr.commands import bench, doctor, quickstart, train
from ne_basicsr.errors import InputError

COMMANDS = (train, quickstart, bench, doctor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; 0 where it went well, 2 after one line on what the user can mend, 130 after Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print('basicsr: interrupted', file=sys.stderr)
        return 130
    except (InputError, ImportError) as error:
        if getattr(options, 'debug', False):
            raise
        print(f'basicsr: {_last_line(error)}', file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='basicsr',
        description='BasicSR with normalization-equivariant networks: f(a y + b) = a f(y) + b.',
    )
    parser.add_argument('--version', action='version', version=f'ne_basicsr {__version__}')
    commands = parser.add_subparsers(title='commands', required=True, metavar='COMMAND')
    for command in COMMANDS:
        command.add(commands)
    return parser


def _last_line(error: BaseException) -> str:
    # an error from a loader's worker carries the worker's traceback in its text
    line = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    for name in (f'{InputError.__module__}.{InputError.__name__}: ', 'ImportError: '):
        line = line.removeprefix(name)
    return line
