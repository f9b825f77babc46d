"""File names made from the names of networks, images and data sets."""

import itertools
import re
from collections.abc import Iterable


def printable(name: str) -> str:
    """A path as text that can be written: bytes that are not UTF-8, which Python keeps as surrogates, as ``\\xff``."""
    return name.encode(errors='surrogateescape').decode(errors='backslashreplace')


def file_name(text: str) -> str:
    """``text`` without characters that file systems refuse; folders in it stay folders."""
    parts = [re.sub(r'[^\w.@+-]+', '-', part) for part in text.split('/')]
    return '/'.join(part for part in parts if part not in ('', '.', '..')) or '-'


def file_names(texts: Iterable[str]) -> list[str]:
    """``file_name`` of each, numbered if two are equal up to capitals, which some file systems ignore."""
    names: dict[str, str] = {}
    for text in texts:
        name = file_name(text)
        numbered = (name if number == 1 else f'{name}-{number}' for number in itertools.count(1))
        free = next(each for each in numbered if each.lower() not in names)
        names[free.lower()] = free
    return list(names.values())
