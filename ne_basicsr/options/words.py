"""What messages about options have in common: how they show a value, a way out, and the key that they are about."""

import re
from typing import Any

from ne_basicsr.utils.words import hint, nearest, one_of, shown

__all__ = ['Key', 'OptionError', 'hint', 'nearest', 'one_of', 'shown', 'wrong']

Key = tuple[str, ...]  # ('train', 'optim_g') for optim_g in the section train


_NUMBER = re.compile(r'[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(inf|nan)', re.IGNORECASE)


class OptionError(Exception):
    """One wrong option: its key and what is wrong with it."""

    def __init__(self, key: Key, problem: str) -> None:
        super().__init__(':'.join(key), problem)
        self.key = key
        self.problem = problem


def wrong(rule: str, value: Any) -> str:
    """The rule, the value received and, for quotes that are missing or too many, the way out."""
    way_out = ''
    if isinstance(value, str) and ('integer' in rule or 'number' in rule) and _NUMBER.fullmatch(value.strip()):
        way_out = ' (remove the quotes)'
    elif rule.startswith(('a text', 'a name', 'a plain folder name')) and isinstance(value, int | float):
        way_out = ' (put it in quotes)'
    elif rule.startswith('a list') and not isinstance(value, list | dict | None):
        way_out = f' (write [{value}])'
    return f'{rule}; got {shown(value)}{way_out}'
