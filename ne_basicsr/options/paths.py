"""Files and folders that options name: whether they are there, and what else is when they are not."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ne_basicsr.options import shipped
from ne_basicsr.utils.errors import Key, OptionError, leaves
from ne_basicsr.utils.words import similar_path
from ne_basicsr.weights import shipped_models


def check_data(section: Mapping[str, Any], path: Key) -> None:
    """Every ``dataroot_*`` and meta information file of a data set."""
    backend = (section.get('io_backend') or {}).get('type')
    for key, value in section.items():
        if not isinstance(value, str):
            continue
        if key.startswith('dataroot_'):
            _check_exists(value, (*path, key), folder=backend != 'mat', is_lmdb=backend == 'lmdb')
        elif key in ('meta_info_file', 'meta_info'):
            _check_exists(value, (*path, key))


def check_network_files(section: Mapping[str, Any], path: Key, named: str = r'.*_path') -> None:
    """Files that must be there: weights that networks load themselves, ``spynet_path``, or others by their keys.

    A name of a shipped model stands for its file.
    """
    for key, value in leaves(section, path):
        if re.fullmatch(named, key[-1]) and isinstance(value, str):
            _check_exists(str(shipped_models.resolve(value)), key)


def _check_exists(value: str, path: Key, folder: bool = False, is_lmdb: bool = False) -> None:
    kind, target = 'folder' if folder else 'file', Path(os.path.expanduser(value))  # pathlib's raises for unknown users
    problem = ''
    if is_lmdb and not value.rstrip('/').endswith('.lmdb'):
        problem = f'io_backend lmdb needs a folder whose name ends in .lmdb; got {value!r}'
    elif not target.exists():
        is_public = path[-1].startswith('dataroot_') and value.startswith('datasets/')  # as in the shipped files
        where = f'; {shipped.DATA_INSTRUCTIONS} says where to get it' if is_public else ''
        problem = f'the {kind} {value!r} does not exist{similar_path(target)}{where}'
    elif not (target.is_dir() if folder else target.is_file()):
        problem = f'a {kind} is needed; {value!r} is a {"file" if folder else "folder"}'
    elif is_lmdb:
        # `basicsr prepare --format raw` may have written it
        content = 'images.raw' if (target / 'images.raw').is_file() else 'data.mdb'
        if missing := [name for name in (content, 'meta_info.txt') if not (target / name).is_file()]:
            problem = f'{value!r} holds no {missing[0]}, so it is no LMDB of images; create it again'
    if problem:
        raise OptionError(path, problem)
