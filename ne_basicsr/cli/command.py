"""What the commands of ``commands.toml`` share. Each is a module, whose ``run`` does the work and prints."""

import argparse
import shlex
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ne_basicsr.utils.errors import InputError
from ne_basicsr.utils.file_names import printable
from ne_basicsr.utils.words import hint, one_of

TYPES: dict[str, Callable[[Any], Any]] = {
    'int': int,
    'float': float,
    'path': Path,
    'image_format': lambda text: {'jpg': 'jpeg', 'tif': 'tiff'}.get(text.lower(), text.lower()),
}


class Parser(argparse.ArgumentParser):
    """The program's parser, and a subcommand's: options may stand between file names, errors show the nearest name."""

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


def add_commands(commands: Any) -> None:
    """Add every command of ``commands.toml`` to argparse's sub-parsers; its module is imported when it runs."""
    table = tomllib.loads((Path(__file__).parent / 'commands.toml').read_text(encoding='utf-8'))
    shared, networks = table.pop('shared'), table.pop('networks').strip()
    for name, about in table.items():
        epilog = about.get('epilog', '').replace('{networks}', networks)
        layout = argparse.RawDescriptionHelpFormatter if epilog else argparse.HelpFormatter
        what = about['help']
        parser = commands.add_parser(name, help=what, description=what, formatter_class=layout, epilog=epilog or None)
        parser.set_defaults(command=name, module=about.get('module', name), parser=parser)
        for names, own in about['arguments'].items():
            _add_argument(parser, names, **(own if 'help' in own else shared[names] | own))


def _add_argument(parser: argparse.ArgumentParser, names: str, default: Any = None, **settings: Any) -> None:
    text, kind = settings.pop('help', argparse.SUPPRESS), settings.pop('type', type(default).__name__)
    if default is False:
        settings['action'] = 'store_true'
    elif kind in TYPES:
        settings['type'] = TYPES[kind]
        default = TYPES[kind](default) if isinstance(default, str) else default
    if isinstance(default, int | float | str | Path) and default is not False and default != '':
        text += f' (default: {default})'
    parser.add_argument(*names.split(), default=default, help=text, **settings)


def chosen_device(arguments: argparse.Namespace) -> str:
    """``cpu``, ``cuda`` or ``mps``, if it is there; ``mps`` only if asked for, since it computes in float32 at most."""
    import torch

    name = arguments.device
    there = {'cpu': True, 'cuda': torch.cuda.is_available(), 'mps': torch.backends.mps.is_available()}
    if name == 'auto':
        return 'cuda' if there['cuda'] else 'cpu'
    if name not in there:
        raise InputError(f'--device must be one of {", ".join([*there, "auto"])}; got {name!r}')
    if not there[name]:
        kind = 'CUDA device' if name == 'cuda' else 'Apple GPU that this torch can use'
        raise InputError(f'--device {name}: no {kind} is available; use cpu or auto')
    return name


def check_level(arguments: argparse.Namespace, *names: str) -> None:
    """Raise InputError unless each option, such as ``training_sigma255``, is missing, a noise level or several."""
    for name in names:
        value, flag = getattr(arguments, name), f'--{name.replace("_", "-")}'
        for level in value if isinstance(value, list) else [value]:
            if level is not None and not 0 < level < float('inf'):
                problem = f'must be a noise level above 0 in 8-bit units; got {level:g}'
                raise InputError(f'{arguments.command}: {flag} {problem}')


def check_least(arguments: argparse.Namespace, **least: int) -> None:
    """Raise InputError unless each option is missing or at least so much."""
    for name, low in least.items():
        value, flag = getattr(arguments, name), f'--{name.replace("_", "-")}'
        if value is not None and value < low:
            raise InputError(f'{arguments.command}: {flag} must be at least {low}; got {value}')


def given(arguments: argparse.Namespace, kind: Any, **others: Any) -> Any:
    """``kind``, a named tuple, of the arguments that its fields are called after, and of ``others``."""
    own = {name: value for name, value in vars(arguments).items() if name in kind._fields}
    return kind(**own | others)


def named_network(text: str, arguments: argparse.Namespace) -> Any:
    """The ``Spec`` of a network, with ``--wne`` and ``--training-sigma255``, which must fit each other and ``text``."""
    from ne_basicsr.inference.opening import parse_spec

    spec, level = parse_spec(text), arguments.training_sigma255
    problem = ''
    if level is not None and spec.sigma255 not in (None, level):
        problem = f'{text} and --training-sigma255 {level:g} give different training levels'
    elif level is not None and not (spec.wrap or arguments.wne):
        images = ', or give the level of the images as --image-sigma255' if 'image_sigma255' in arguments else ''
        problem = f'--training-sigma255 is what --wne needs; add --wne{images}'
    if problem:
        raise InputError(f'{arguments.command}: {problem}')
    return spec._replace(wrap=spec.wrap or arguments.wne, sigma255=level or spec.sigma255)


def typed(arguments: argparse.Namespace) -> str:
    """The command that gives the same numbers again on any machine: not what is about the machine."""
    texts = arguments.parser.prog.split()
    for action in arguments.parser._actions:
        value = getattr(arguments, action.dest, None)
        if (
            action.dest in ('output', 'device', 'batch', 'debug')
            or value is None
            or value is False
            or value in ('', [])
        ):
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
