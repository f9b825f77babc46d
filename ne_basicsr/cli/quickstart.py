"""``basicsr quickstart``."""

import argparse


def run(arguments: argparse.Namespace) -> int:
    from ne_basicsr.train.quickstart import quickstart
    from ne_basicsr.utils.folder_lock import hold

    with hold(arguments.output, 'choose another --output'):
        quickstart(arguments.output, arguments.total_iter)
    return 0
