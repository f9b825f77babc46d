"""What could be typed before the redesign can still be typed (old_commands.yml: README.md and --help of 279faa8)."""

import argparse
import shlex
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from ne_basicsr.cli.main import _parser

OLD = yaml.safe_load((Path(__file__).parent / 'old_commands.yml').read_text(encoding='utf-8'))
MOVED = {'bench': {'--data', '--train'}}  # to scripts/bench_loader.py and bench_trainer.py: they measure no network


def commands():
    (choices,) = (a.choices for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    return choices


@pytest.mark.parametrize('name', OLD['options'])
def test_every_option_is_still_there_with_its_choices(name):
    actions = commands()[name]._actions
    offered = {option for action in actions for option in action.option_strings}
    assert set(OLD['options'][name].split()) - MOVED.get(name, set()) <= offered
    for option, choices in OLD['choices'].get(name, {}).items():
        (action,) = (action for action in actions if option in action.option_strings)
        assert set(choices) <= set(map(str, action.choices))


@pytest.mark.parametrize('command', OLD['commands'])
def test_every_command_of_the_readme_is_still_taken(command):
    _, *words = shlex.split(command)
    module = import_module(f'ne_basicsr.cli.{_parser().parse_args(words).module}')
    assert callable(module.run)
    with pytest.raises(SystemExit):  # the control
        _parser().parse_args([*words, '--no-such-option'])


def test_what_moved_is_where_the_readme_says():
    scripts = Path(__file__).parents[2] / 'scripts'
    assert all((scripts / name).is_file() for name in ('bench_loader.py', 'bench_trainer.py'))
