"""``--device`` and ``--trust`` of the commands that run networks."""

import argparse

from ne_basicsr.utils.errors import InputError

CHOICES = ('cpu', 'cuda', 'mps', 'auto')


def add_device(parser: argparse.ArgumentParser, default: str = 'auto') -> None:
    """Declare ``--device``; ``chosen_device`` reads it."""
    text = f"cpu, cuda, mps (Apple's GPU) or auto, which uses cuda if available (default: {default})"
    parser.add_argument('--device', default=default, help=text)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Declare ``--trust``."""
    parser.add_argument('--trust', action='store_true', help='allow reading .pt2 files, which can run code')


def chosen_device(arguments: argparse.Namespace) -> str:
    """``cpu``, ``cuda`` or ``mps``; ``mps`` only if asked for, since it computes in float32 at most.

    Raises:
        InputError: for other names, or for a device that is not available.
    """
    import torch

    name = arguments.device
    if name not in CHOICES:
        raise InputError(f'--device must be one of {", ".join(CHOICES)}; got {name!r}')
    there = {'cpu': True, 'cuda': torch.cuda.is_available(), 'mps': torch.backends.mps.is_available()}
    if name == 'auto':
        return 'cuda' if there['cuda'] else 'cpu'
    if not there[name]:
        kind = 'CUDA device' if name == 'cuda' else 'Apple GPU that this torch can use'
        raise InputError(f'--device {name}: no {kind} is available; use cpu or auto')
    return name
