"""``--device`` and ``--trust`` of the commands that run networks."""

import argparse

from ne_basicsr.utils.errors import InputError

CHOICES = ('cpu', 'cuda', 'auto')


def add_device(parser: argparse.ArgumentParser, default: str = 'auto') -> None:
    """Declare ``--device``; ``chosen_device`` reads it."""
    text = f'cpu, cuda or auto, which uses cuda if available (default: {default})'
    parser.add_argument('--device', default=default, help=text)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Declare ``--trust``."""
    parser.add_argument('--trust', action='store_true', help='allow reading .pt2 files, which can run code')


def chosen_device(arguments: argparse.Namespace) -> str:
    """``cpu`` or ``cuda``.

    Raises:
        InputError: for other names, or for cuda if it is not available.
    """
    import torch

    name = arguments.device
    if name not in CHOICES:
        raise InputError(f'--device must be one of {", ".join(CHOICES)}; got {name!r}')
    if name == 'cuda' and not torch.cuda.is_available():
        raise InputError('--device cuda: no CUDA device is available; use cpu or auto')
    return 'cuda' if name != 'cpu' and torch.cuda.is_available() else 'cpu'
