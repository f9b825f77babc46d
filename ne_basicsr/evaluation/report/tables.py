"""Tables as CSV and as plain text, results as JSON, and folders that can be written."""

import csv
import json
import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ne_basicsr.metrics.curves import KEYS, Row
from ne_basicsr.utils.errors import InputError, explained_writing


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Make a folder; within the context, what the file system refuses is an ``InputError`` in one line."""
    with explained_writing(folder, 'give another folder', 'the results'):
        folder.mkdir(parents=True, exist_ok=True)
        yield


def check_writable(path: Path) -> None:
    """Raise ``InputError`` where a file cannot be written, before the work rather than after it; makes nothing."""
    if not path.parent.is_dir():
        raise InputError(f'{path}: the folder {str(path.parent)!r} does not exist')
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f'{path}: cannot be written; give a file in a folder where you may write')


def write_csv(
    path: Path,
    columns: Collection[str],
    rows: Iterable[Iterable[Any]],
    digits: str | Mapping[str, str] = '',
    *,
    append: bool = False,
) -> None:
    """Write one line per row, None as an empty cell. Makes the folders above.

    Args:
        digits: the format of floating-point numbers, of all columns or by column.
        append: whether lines are added to a file that has a header.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    specs = [digits if isinstance(digits, str) else digits.get(name, '') for name in columns]
    with open(path, 'a' if append else 'w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file, lineterminator='\n')
        if not append:
            writer.writerow(columns)
        for row in rows:
            writer.writerow(
                format(value, spec) if isinstance(value, float) else value
                for value, spec in zip(row, specs, strict=True)
            )


def write_rows(path: Path, rows: Sequence[Row], columns: Collection[str] = ()) -> None:
    """Write cells of a sweep as CSV, PSNR and other measures with six decimals.

    Args:
        columns: where there are no rows; otherwise those of the first row.
    """
    columns = list(rows[0]) if rows else columns
    # the defect of an equivariant network is as small as rounding: significant digits, not decimals
    digits = {name: '.3e' if 'defect' in name else '.6f' for name in columns if name not in KEYS}
    write_csv(path, columns, ([row[name] for name in columns] for row in rows), {**digits, 'level': '.10g'})


def write_json(path: Path, content: Any) -> None:
    """Write strict JSON, where named tuples are objects and numbers that are not finite are null.

    Raises:
        InputError: where the file cannot be written.
    """
    text = json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + '\n'
    with writing(path.parent):  # a byte of a file's name that is not UTF-8 is escaped as JSON escapes it
        path.write_text(text, encoding='utf-8', errors='backslashreplace', newline='\n')


def text_table(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """Rows as plain text in aligned columns: the columns ``left`` to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    signs = [f'{"<" if x in left else ">"}{width}' for x, width in enumerate(widths)]
    return '\n'.join('  '.join(map(format, row, signs)).rstrip() for row in rows)


def _plain(content: Any) -> Any:
    if hasattr(content, '_asdict'):
        content = content._asdict()
    if isinstance(content, Mapping):
        return {name: _plain(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
