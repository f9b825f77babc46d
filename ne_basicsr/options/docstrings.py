"""What docstrings say about a class or function and its arguments: Google style, as here, in BasicSR and in torch."""

import inspect
import re
from collections.abc import Callable
from functools import cache
from typing import Any

_BLOCK = re.compile(r'^( *)(?:Args|Arguments|Parameters): *\n((?:(?:\1 +.*)?\n)*)', re.MULTILINE)
# `num_feat, num_out_ch (int, optional): channels of ...`, with the deeper lines below it
_ENTRY = re.compile(r'^( +)(\w+(?:, *\w+)*) *(?:\(.*?\))?: +(\S.*\n(?:(?:\1 +.*)?\n)*)', re.MULTILINE)
_DEFAULT = re.compile(r' *\(?[Dd]efault:? \S+\)?$')  # shown apart from the description
_LONG = 160  # from which on the first sentence is enough


def summary(item: Any) -> str:
    """The first paragraph of a docstring on one line, or its first sentence."""
    return _shortened(re.split(r'\n\s*\n', inspect.cleandoc(_own_doc(item)))[0])


@cache
def argument_docs(item: Callable[..., Any]) -> dict[str, str]:
    """What is said about each argument, on one line; a class says what its bases say, too."""
    said: dict[str, str] = {}
    for part in item.__mro__ if inspect.isclass(item) else (item,):
        for each in (part, vars(part).get('__init__') if inspect.isclass(part) else None):
            block = _BLOCK.search(inspect.cleandoc(_own_doc(each)) + '\n')
            said = (_entries(block[2]) if block else {}) | said
    return said


def _own_doc(item: Any) -> str:
    """Its own docstring, not an inherited one."""
    doc = getattr(item, '__dict__', {}).get('__doc__') or getattr(item, '__doc__', None)
    return doc if isinstance(doc, str) and item is not None else ''


def _entries(block: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for _, names, text in _ENTRY.findall(block):
        found |= dict.fromkeys(re.split(', *', names), _shortened(text))
        if names == 'opt':  # BasicSR's data sets describe their keys below it
            found |= _entries(text)
    return found


def _shortened(text: str) -> str:
    plain = _DEFAULT.sub('', ' '.join(text.replace('``', '').split()))
    if len(plain) <= _LONG:
        return plain
    first = re.split(r'(?<=[a-z)\d]\.) ', plain, maxsplit=1)[0]
    return first if len(first) <= 2 * _LONG else f'{first[: 2 * _LONG - 3]}...'
