"""Files and folders that options name: whether they are there, and what else is when they are not."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ne_basicsr.options import shipped
from ne_basicsr.utils.errors import OptionError
from ne_basicsr.utils.words import similar_path


def check_data(section: Mapping[str, Any], path: tuple[str, ...]) -> None:
    """Every ``dataroot_*`` and meta information file of a data set."""
    backend = section.get('io_backend') or {}
    for key, value in section.items():
        if not isinstance(value, str):
            continue
        if key.startswith('dataroot_'):
            if backend.get('type') == 'lmdb':
                _check_lmdb(value, (*path, key))
            else:
                _check_exists(value, (*path, key), folder=backend.get('type') != 'mat')
        elif key in ('meta_info_file', 'meta_info'):
            _check_exists(value, (*path, key), folder=False)


def check_network_files(section: Mapping[str, Any], path: tuple[str, ...], named: str = r'.*_path') -> None:
    """Files that must be there: weights that networks load themselves, ``spynet_path``, ``edvr_path``, ``load_path``.

    Args:
        named: pattern of the keys, for others than networks.
    """
    for key, value in section.items():
        if isinstance(value, Mapping):
            check_network_files(value, (*path, key), named)
        elif re.fullmatch(named, key) and isinstance(value, str):
            _check_exists(value, (*path, key), folder=False)


def _check_lmdb(value: str, path: tuple[str, ...]) -> None:
    if not value.rstrip('/').endswith('.lmdb'):
        raise OptionError(path, f'io_backend lmdb needs a folder whose name ends in .lmdb; got {value!r}')
    _check_exists(value, path, folder=True)
    # `basicsr prepare --format raw` may have written it
    content = 'images.raw' if (_expanded(value) / 'images.raw').is_file() else 'data.mdb'
    for name in (content, 'meta_info.txt'):
        if not (_expanded(value) / name).is_file():
            raise OptionError(path, f'{value!r} holds no {name}, so it is no LMDB of images; create it again')


def _check_exists(value: str, path: tuple[str, ...], folder: bool) -> None:
    kind = 'folder' if folder else 'file'
    target = _expanded(value)
    if target.is_dir() if folder else target.is_file():
        return
    if target.exists():
        raise OptionError(path, f'a {kind} is needed; {value!r} is a {"file" if folder else "folder"}')
    is_public = path[-1].startswith('dataroot_') and value.startswith('datasets/')  # as in the shipped files
    where = f'; {shipped.DATA_INSTRUCTIONS} says where to get it' if is_public else ''
    raise OptionError(path, f'the {kind} {value!r} does not exist{similar_path(target)}{where}')


def _expanded(value: str) -> Path:
    return Path(os.path.expanduser(value))  # pathlib's raises for users that are not there
