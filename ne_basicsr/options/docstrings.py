"""What docstrings say about a class or function and its arguments: Google style, as here, in BasicSR and in torch."""

import inspect
import re
from collections.abc import Callable
from functools import cache
from typing import Any

HEADING = re.compile(r'^( *)(?:Args|Arguments|Parameters):\s*$')
# `num_feat, num_out_ch (int, optional): channels of ...`
ENTRY = re.compile(r'^(\w+(?:, *\w+)*) *(?:\(.*?\))?: +(\S.*)$')
DEFAULT = re.compile(r' *\(?[Dd]efault:? \S+\)?$')  # shown apart from the description
LONG = 160  # from which on the first sentence is enough


def summary(item: Any) -> str:
    """The first paragraph of a docstring on one line, or its first sentence."""
    return _shortened(re.split(r'\n\s*\n', inspect.cleandoc(_own_doc(item)))[0])


@cache
def argument_docs(item: Callable[..., Any]) -> dict[str, str]:
    """What is said about each argument, on one line; a class says what its bases say, too."""
    documented = item.__mro__ if inspect.isclass(item) else (item,)
    said: dict[str, str] = {}
    for part in documented:
        for doc in (_own_doc(part), _own_doc(vars(part).get('__init__')) if inspect.isclass(part) else ''):
            said = _entries(inspect.cleandoc(doc)) | said
    return said


def _own_doc(item: Any) -> str:
    """Its own docstring, not an inherited one."""
    doc = getattr(item, '__dict__', {}).get('__doc__') or getattr(item, '__doc__', None)
    return doc if isinstance(doc, str) and item is not None else ''


def _entries(doc: str) -> dict[str, str]:
    lines = doc.splitlines()
    start = next((index for index, line in enumerate(lines) if HEADING.match(line)), None)
    if start is None:
        return {}
    outside = len(lines[start]) - len(lines[start].lstrip())
    texts: dict[str, str] = {}
    names: list[str] = []
    inside = None
    for line in lines[start + 1 :]:
        depth = len(line) - len(line.lstrip())
        if line.strip() and depth <= outside:
            break
        entry = ENTRY.match(line.strip())
        if entry and inside is not None and depth > inside and names == ['opt'] and entry[0].find(' (') > 0:
            inside = depth  # BasicSR's data sets describe their keys below `opt`
        inside = depth if inside is None and line.strip() else inside
        if entry and depth == inside:
            names = [name.strip() for name in entry[1].split(',')]
            texts |= dict.fromkeys(names, entry[2])
        elif line.strip():
            texts |= {name: f'{texts[name]} {line.strip()}' for name in names}
    return {name: _shortened(text) for name, text in texts.items()}


def _shortened(text: str) -> str:
    plain = DEFAULT.sub('', ' '.join(text.replace('``', '').split()))
    if len(plain) <= LONG:
        return plain
    first = re.split(r'(?<=[a-z)\d]\.) ', plain, maxsplit=1)[0]
    return first if len(first) <= 2 * LONG else f'{first[: 2 * LONG - 3]}...'
