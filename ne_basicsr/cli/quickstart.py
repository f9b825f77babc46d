"""``basicsr quickstart``."""

import argparse
from pathlib import Path

from ne_basicsr.cli.command import Commands, add_command


def add(commands: Commands) -> None:
    what = 'train with and without the wrapper, and show what it buys'
    parser = add_command(commands, 'quickstart', what, run)
    parser.add_argument('-o', '--output', type=Path, default=Path('quickstart'), help='folder (default: quickstart)')
    parser.add_argument('--total_iter', type=int, help='training iterations, instead of the option files')


def run(arguments: argparse.Namespace) -> int:
    from ne_basicsr.train.quickstart import quickstart
    from ne_basicsr.utils.folder_lock import hold

    with hold(arguments.output, 'choose another --output'):
        quickstart(arguments.output, arguments.total_iter)
    return 0
