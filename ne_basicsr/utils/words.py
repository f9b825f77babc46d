"""How messages show a value, and the way out of a misspelling: the nearest known name or existing file."""

import difflib
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any


def shown(value: Any) -> str:
    """A value as a message shows it: on one line, at most 60 characters, as YAML would spell it."""
    spelled = {None: 'null', True: 'true', False: 'false'}
    text = spelled[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'


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


def similar_path(path: Path, known: Collection[str] = ()) -> str:
    """The way out of a missing path: the path or ``known`` name most like it, or the first part that is missing."""
    if path.exists():
        return ''  # what is wrong is its kind
    missing = path
    while not missing.parent.is_dir() and missing.parent != missing:
        missing = missing.parent
    try:
        names = [each.name for each in os.scandir(missing.parent) if missing == path or each.is_dir()]
    except OSError:
        return ''
    for cutoff in (0.7, 0.5):
        if near := nearest(missing.name, names, cutoff):
            return f'; did you mean {str(missing.parent / near)!r}?'
        if near := nearest(path.stem, known, cutoff):
            return f'; did you mean {near!r}?'
    return f'; there is no {missing.name!r} in {str(missing.parent.absolute())!r}'
