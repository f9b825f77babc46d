"""``basicsr quickstart``."""

import argparse
from pathlib import Path

from ne_basicsr.cli import command


def add(commands: command.Commands) -> None:
    what = 'train with and without the wrapper, and show what it buys'
    option = command.add_command(commands, 'quickstart', what, run)
    option('-o --output', 'folder', Path('quickstart'))
    option('--total_iter', 'training iterations, instead of the option files', type=int)


def run(arguments: argparse.Namespace) -> int:
    from ne_basicsr.train.quickstart import quickstart
    from ne_basicsr.utils.folder_lock import hold

    with hold(arguments.output, 'choose another --output'):
        quickstart(arguments.output, arguments.total_iter)
    return 0
