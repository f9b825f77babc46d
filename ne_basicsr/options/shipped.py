"""The option files that come with the package, in a clone or installed, by their path or name: ``swinir_wne``."""

import re
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_IS_INSTALLED = (_PACKAGE / 'shipped_options').exists()  # not in a clone
FOLDER = _PACKAGE / 'shipped_options' if _IS_INSTALLED else _PACKAGE.parent / 'options'
DATA_INSTRUCTIONS = (_PACKAGE / 'shipped_datasets' if _IS_INSTALLED else _PACKAGE.parent / 'datasets') / 'README.md'


def names() -> list[str]:
    """What the files are called, without suffix: ``dncnn``, ``experiments/dncnn`` ..."""
    found = [file.relative_to(FOLDER) for file in FOLDER.rglob('*.yml')]
    return [file.with_suffix('').as_posix() for file in sorted(found, key=lambda file: (len(file.parts), file))]


def find(path: str | Path, called: str | Path = '') -> Path:
    """``path`` if it exists, else the shipped file that it, or what it was ``called``, names: ``swinir_wne``."""
    name = Path(called or path).as_posix().removeprefix('options/').removesuffix('.yml')
    return FOLDER / f'{name}.yml' if not Path(path).exists() and name in names() else Path(path)


def listing() -> str:
    """A line for each file: its name and its first comment."""
    lines = []
    for name in names():
        comments = re.findall('^# (?!yaml-)(.*)', (FOLDER / f'{name}.yml').read_text(encoding='utf-8'), re.MULTILINE)
        lines.append(f'{name:<40} {comments[0]}')
    return '\n'.join(lines)
