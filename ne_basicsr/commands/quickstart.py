"""``basicsr quickstart``."""

import argparse
from pathlib import Path

from ne_basicsr.commands import Commands, add_command


def add(commands: Commands) -> None:
    what = 'train with and without the wrapper, and show what it buys'
    parser = add_command(commands, 'quickstart', what, run)
    parser.add_argument('-o', '--output', type=Path, default=Path('quickstart'), help='folder (default: quickstart)')
    parser.add_argument('--total_iter', type=int, help='training iterations, instead of the option files')


def run(arguments: argparse.Namespace) -> int:
    from ne_basicsr.folder_lock import hold
    from ne_basicsr.quickstart import quickstart

    with hold(arguments.output, 'choose another --output'):
        quickstart(arguments.output, arguments.total_iter)
    return 0
