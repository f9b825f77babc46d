"""The subcommands, one module each: ``add`` declares its arguments, ``run`` calls what does the work and prints.

Modules are imported to print ``--help``: what is heavy is imported inside ``run``.
"""

import argparse
from collections.abc import Callable
from typing import Any

Commands = Any  # argparse's _SubParsersAction, which is not public


def add_command(
    commands: Commands, name: str, what: str, run: Callable[[argparse.Namespace], int], **options: Any
) -> argparse.ArgumentParser:
    """A subcommand with ``--debug``; ``run`` gets its arguments and returns the exit code."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=what, description=what, **options)
    parser.set_defaults(run=run)
    parser.add_argument('--debug', action='store_true', help='tracebacks instead of one line')
    return parser
