"""What messages about options have in common: how they show a value, a way out, and the key that they are about."""

import difflib
from collections.abc import Collection
from typing import Any

Key = tuple[str, ...]  # ('train', 'optim_g') for optim_g in the section train


class OptionError(Exception):
    """One wrong option: its key and what is wrong with it."""

    def __init__(self, key: Key, problem: str) -> None:
        super().__init__(':'.join(key), problem)
        self.key = key
        self.problem = problem


def shown(value: Any) -> str:
    """A value as a message shows it: on one line, at most 60 characters, as YAML would spell it."""
    spelled = {None: 'null', True: 'true', False: 'false'}
    text = spelled[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'


def wrong(rule: str, value: Any) -> str:
    """The rule, the value received and, for quotes that are missing or too many, the way out."""
    way_out = ''
    if isinstance(value, str) and ('integer' in rule or 'number' in rule) and _reads_as_number(value):
        way_out = ' (remove the quotes)'
    elif rule.startswith(('a text', 'a name', 'a plain folder name')) and isinstance(value, int | float):
        way_out = ' (put it in quotes)'
    elif rule.startswith('a list') and not isinstance(value, list | dict | None):
        way_out = f' (write [{value}])'
    return f'{rule}; got {shown(value)}{way_out}'


def nearest(name: object, known: Collection[str], cutoff: float = 0.6) -> str | None:
    """The known name most similar to ``name``, ignoring case."""
    lower = {item.lower(): item for item in sorted(known)}
    near = difflib.get_close_matches(str(name).lower(), lower, n=1, cutoff=cutoff)
    return lower[near[0]] if near else None


def hint(name: object, known: Collection[str]) -> str:
    """The way out of an unknown name: the nearest known one, or the first twelve."""
    if near := nearest(name, known):
        return f'did you mean {near!r}?'
    listed = sorted(known)
    return f'known: {", ".join(listed[:12])}{", ..." if len(listed) > 12 else ""}'


def one_of(choices: Collection[str], value: Any) -> str:
    """The problem of a value that is none of ``choices``."""
    near = nearest(value, choices) if isinstance(value, str) else None
    return f'one of {", ".join(choices)} is needed; got {shown(value)}' + (f'; did you mean {near!r}?' if near else '')


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
