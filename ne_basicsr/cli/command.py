"""What the subcommands share. Each is a module: ``add`` declares its arguments; ``run`` does the work and prints.

The modules are imported to print ``--help``, so ``run`` imports everything heavy.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ne_basicsr.utils.errors import InputError
from ne_basicsr.utils.file_names import printable
from ne_basicsr.utils.words import hint, one_of

Commands = Any  # argparse's _SubParsersAction, which is not public
Option = Callable[..., None]  # ``add_option`` for one subcommand

NETWORKS = """\
networks:
  net.pth            a checkpoint of this project or of a toolbox with a known layout
  net.pth@25         the same, trained at noise level 25 (if the file does not record the level)
  net.pth@25+wne     the same, made equivariant without training
  net.pth+x8         the mean over the rotations and mirror images of the input (8 times the work); also after +wne
  net.pt=WNE         a checkpoint that does not record its type or wrapper, such as those of the WNE paper's code;
                     =DnCNN for a plain network, =InputNorm; combined: net.pt=DnCNN@25+wne
  net.yml            an option file: its network_g with the weights of path:pretrain_network_g
  gray               a model that comes with the package
"""
"""The grammar of ``inference.opening``, for ``--help``."""

GRAPHS = """\
  net.onnx, net.pt2  an exported graph; reading .pt2 files needs --trust
"""
"""Commands that only run networks take these, too."""


DEVICES = ('cpu', 'cuda', 'mps', 'auto')


class Parser(argparse.ArgumentParser):
    """A subcommand's parser: options may stand between file names, and errors show its own usage and the nearest name.

    The program's own parser, which picks the subcommand, is one, too.
    """

    _is_inside = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._subparsers is not None or self._is_inside:  # argparse calls it again for each half of the arguments
            return super().parse_known_args(args, namespace)
        self._is_inside = True
        # in Python 3.11 the two halves lose a --, after which all are file names
        parse = super().parse_known_args if '--' in (args or ()) else self.parse_known_intermixed_args
        namespace, unknown = parse(args, namespace)
        self._is_inside = False
        if unknown:
            flags = [word.partition('=')[0] for word in unknown if word.startswith('-')][:1]
            near = [hint(flag, self._option_string_actions) for flag in flags if flag not in ('-', '--')]
            self.error('; '.join([f'unrecognized arguments: {" ".join(unknown)}', *near]))
        return namespace, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, one_of([*map(str, action.choices)], value))


def add_command(
    commands: Commands, name: str, what: str, run: Callable[[argparse.Namespace], int], **options: Any
) -> Option:
    """Add a subcommand with ``--debug``; ``run`` takes the parsed arguments and returns the exit code.

    Returns:
        ``add_option`` for the subcommand.
    """
    layout = argparse.RawDescriptionHelpFormatter if 'epilog' in options else argparse.HelpFormatter
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=what, description=what, formatter_class=layout, **options
    )
    parser.set_defaults(run=run, parser=parser)
    option = partial(add_option, parser)
    option('--debug', 'show tracebacks instead of one-line errors', False)
    return option


def add_option(parser: Any, names: str, text: str, default: Any = None, **settings: Any) -> None:
    """Declare an option: ``False`` makes it a flag; the type is that of another default, which the help tells."""
    if default is False:
        settings['action'] = 'store_true'
    elif isinstance(default, str | int | float | Path) and default != '':
        settings.setdefault('type', type(default))
        text += f' (default: {default})'
    parser.add_argument(*names.split(), default=default, help=text, **settings)


def add_import(option: Option) -> None:
    """Declare ``--import``, which ``main`` does before the command runs."""
    text = 'import a .py file, or an installed module, that registers networks of your own; can be repeated'
    option('--import', text, [], action='append', dest='imports', metavar='FILE')


def add_training_level(option: Option) -> None:
    """Add ``--wne`` and the level that a network wrapped by it was trained at, as ``arguments.training_sigma255``."""
    option('--wne', 'make a plain network equivariant without training', False)
    text = 'with --wne: the noise level that the network was trained at, 8-bit units (--sigma255 is its old name)'
    option('--training-sigma255 --sigma255', text, type=float, metavar='S')


def add_device(option: Option, default: str = 'auto') -> None:
    """Declare ``--device``; ``chosen_device`` reads it."""
    option('--device', "cpu, cuda, mps (Apple's GPU) or auto, which uses cuda if available", default)


def add_trust(option: Option) -> None:
    """Declare ``--trust``."""
    option('--trust', 'allow reading .pt2 files, which can run code', False, dest='trusted')


def chosen_device(arguments: argparse.Namespace) -> str:
    """``cpu``, ``cuda`` or ``mps``; ``mps`` only if asked for, since it computes in float32 at most.

    Raises:
        InputError: for other names, or for a device that is not available.
    """
    import torch

    name = arguments.device
    if name not in DEVICES:
        raise InputError(f'--device must be one of {", ".join(DEVICES)}; got {name!r}')
    there = {'cpu': True, 'cuda': torch.cuda.is_available(), 'mps': torch.backends.mps.is_available()}
    if name == 'auto':
        return 'cuda' if there['cuda'] else 'cpu'
    if not there[name]:
        kind = 'CUDA device' if name == 'cuda' else 'Apple GPU that this torch can use'
        raise InputError(f'--device {name}: no {kind} is available; use cpu or auto')
    return name


def check_level(arguments: argparse.Namespace, *names: str) -> None:
    """Raise InputError unless each option, such as ``training_sigma255``, is missing or a noise level."""
    for name in names:
        value = getattr(arguments, name)
        if value is not None and not 0 < value < float('inf'):
            option = f'{_command(arguments)}: --{name.replace("_", "-")}'
            raise InputError(f'{option} must be a noise level above 0 in 8-bit units; got {value:g}')


def check_least(arguments: argparse.Namespace, **least: int) -> None:
    """Raise InputError unless each option is missing or at least so much."""
    for name, low in least.items():
        value = getattr(arguments, name)
        if value is not None and value < low:
            option = f'{_command(arguments)}: --{name.replace("_", "-")}'
            raise InputError(f'{option} must be at least {low}; got {value}')


def given(arguments: argparse.Namespace, kind: Any, **others: Any) -> Any:
    """``kind``, a named tuple, of the arguments that its fields are called after, and of ``others``."""
    own = {name: value for name, value in vars(arguments).items() if name in kind._fields}
    return kind(**own | others)


def typed(arguments: argparse.Namespace, leave_out: Sequence[str] = ('output', 'device', 'batch')) -> str:
    """The command that gives the same numbers again on any machine, without the options ``leave_out``."""
    texts = arguments.parser.prog.split()
    for action in arguments.parser._actions:
        value = getattr(arguments, action.dest, None)
        if action.dest in (*leave_out, 'debug') or value is None or value is False or value in ('', []):
            continue
        several = value if isinstance(value, list) else [value]
        values = [str(each).removesuffix('.0') if isinstance(each, float) else str(each) for each in several]
        if not action.option_strings:
            texts += values
        elif isinstance(action, argparse._AppendAction):
            texts += [f'{action.option_strings[-1]}={each}' for each in values]
        else:
            texts += [action.option_strings[-1], *([] if value is True else values)]
    return printable(shlex.join(texts))


def report_failures(lines: Sequence[str]) -> int:
    """Print what failed while the rest went on; the exit code, 1 if anything did."""
    for line in lines:
        print(f'basicsr: {line}', file=sys.stderr)
    return 1 if lines else 0


def _command(arguments: argparse.Namespace) -> str:
    return arguments.parser.prog.split()[-1]
