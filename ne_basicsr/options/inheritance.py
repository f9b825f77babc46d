"""``base: other.yml``: an option file that says how it differs from another one.

The base is found relative to the file that names it, and may have a base of its own. On top of it

- sections are merged key by key,
- everything else, lists included, replaces what the base has,
- null removes what the base has, so that the default holds; where the base has nothing it is a value as ever.

This is JSON Merge Patch (RFC 7396), but for nulls that remove nothing: they stay, so that misspelt ones are found.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ne_basicsr.options.reader import read_file
from ne_basicsr.options.words import Key, shown
from ne_basicsr.utils.errors import InputError


class Place(NamedTuple):
    """Where a key was given."""

    file: Path
    line: int


class Source(NamedTuple):
    """An option file with its bases merged: no ``base`` is left.

    Attributes:
        files: the file itself, its base, the base's base ...
        places: of each key, the one that decides.
    """

    options: dict[str, Any]
    files: tuple[Path, ...]
    places: dict[Key, Place]

    def place(self, key: Key) -> Place | None:
        """Where ``key``, or else the section that it is missing from, was given."""
        inner = (key[:length] for length in range(len(key), 0, -1))
        return next((self.places[part] for part in inner if part in self.places), None)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in an option file, its bases merged, as plain dicts, lists and scalars.

    Raises:
        InputError: as ``read_file``, for the file and its bases; a base that is not there or leads back.
    """
    return read_source(path).options


def read_source(path: str | Path, above: tuple[Path, ...] = ()) -> Source:
    """As ``read_yaml``, with the places of the keys.

    Args:
        above: the files that this one is the base of, the first one first.
    """
    path = Path(path)
    options, lines = read_file(path)
    places = {key: Place(path, line) for key, line in lines.items() if key[0] != 'base'}
    base = options.pop('base', None)
    if base is None:
        return Source(options, (path,), places)
    where = f'{path}: line {lines["base",]}: base'
    if not isinstance(base, str) or not base.strip() or not base.isprintable():
        raise InputError(f'{where}: the name of an option file is needed; got {shown(base)}')
    target = path.parent / os.path.expanduser(base)
    chain = (*above, path)
    for index, file in enumerate(chain):
        if target.resolve() == file.resolve():
            between = [*map(str, chain[index + 1 :])]
            how = f'which starts from {" and that from ".join(between)}' if between else 'the file itself'
            raise InputError(f'{where}: {base!r} leads back to {file}, {how}; a base must end somewhere')
    try:
        below = read_source(target, chain)
    except InputError as error:
        if target.exists():
            raise
        raise InputError(f'{where}: {error}') from None
    merged = merge(below.options, options)
    kept = {key: place for key, place in below.places.items() if _is_in(key, merged)}
    return Source(merged, (path, *below.files), kept | {k: p for k, p in places.items() if _is_in(k, merged)})


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` on top, by the rules above. Neither is changed; values are shared."""
    merged = dict(base)
    for key, value in changes.items():
        if value is None and merged.get(key) is not None:
            del merged[key]
        elif isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _is_in(key: Key, options: Mapping[str, Any]) -> bool:
    section: Any = options
    for name in key:
        if not isinstance(section, Mapping) or name not in section:
            return False
        section = section[name]
    return True
