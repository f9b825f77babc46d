"""Pages: one self-contained HTML file from a template and data. No scripts, no requests; light, dark, phone and paper.

``templates/`` holds a template for each page, ``base.html`` with the style sheet ``page.css``, which all extend, and
``parts.html``: tables, figures, images. Jinja2 escapes all texts that templates are given.
"""

import base64
import io
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import jinja2
import numpy as np
import torch
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ne_basicsr.evaluation.report.files import figure_svg

Cell = str | float | None
"""Of a table; None where nothing is known."""


class Column(NamedTuple):
    """A column of a table."""

    header: str  # above it
    format: str = ''  # of its numbers, as in ``.2f``
    # what is set in bold: its ``highest`` or ``lowest`` number, or the highest of each ``row`` among all such columns
    best: str = ''


class Table(NamedTuple):
    """A table for ``parts.html``: headers and cells, each with whether its column is numbers; rows may be marked."""

    headers: list[tuple[str, bool]]
    rows: list[tuple[bool, list[tuple[str, bool]]]]


class Tile(NamedTuple):
    """One image of a strip, see ``display_pixels``, with two short texts below it."""

    pixels: NDArray[np.uint8]
    label: str
    note: str = ''


def write_page(path: Path, template: str, **data: Any) -> None:
    """Write the page: ``template`` is a file in ``templates/``, filled with the ``data`` that it names."""
    path.write_text(TEMPLATES.get_template(template).render(data), encoding='utf-8', newline='\n')


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    *,
    reference: Collection[int] = (),
    marked: Mapping[int, str] | None = None,
) -> Table:
    """A table for a page; its first column names the rows.

    By index, rows in ``reference`` are no candidates for the best of a column, ``marked`` ones are pointed out.
    """
    texts = [[_text(cell, column.format) for cell, column in zip(row, columns, strict=True)] for row in rows]
    signs = {x: {'highest': 1, 'lowest': -1}.get(column.best, 0) for x, column in enumerate(columns)}
    compared = [{(y, x): 1 for x, column in enumerate(columns) if column.best == 'row'} for y in range(len(rows))]
    compared += [{(y, x): sign for y in range(len(rows)) if y not in reference} for x, sign in signs.items() if sign]
    for candidates in compared:
        numbers = {(y, x): sign * cell for (y, x), sign in candidates.items() if _is_number(cell := rows[y][x])}
        largest = {texts[y][x] for y, x in numbers if numbers[y, x] == max(numbers.values())}
        best = [(y, x) for y, x in numbers if texts[y][x] in largest]  # those printed alike are alike
        for y, x in best if len(best) < len(numbers) else ():
            texts[y][x] = Markup('<strong>{}</strong>').format(texts[y][x])
    for y, note in (marked or {}).items():
        texts[y][0] = Markup('{} <small>{}</small>').format(texts[y][0], note)
    numeric = [any(isinstance(row[x], int | float) for row in rows) for x in range(len(columns))]
    headers = [(column.header, is_number) for column, is_number in zip(columns, numeric, strict=True)]
    return Table(headers, [(y in (marked or {}), list(zip(row, numeric, strict=True))) for y, row in enumerate(texts)])


def link(text: str, anchor: str) -> Markup:
    """Text that leads to a section of the page, by its anchor; a cell of a table."""
    return Markup('<a href="#{}">{}</a>').format(anchor, text)


def display_pixels(image: Tensor) -> NDArray[np.uint8]:
    """An image (C, H, W) on [0, 1] as 8-bit (H, W) or (H, W, 3), clipped."""
    pixels = (image.detach().nan_to_num().clamp(0, 1).float() * 255).round().to(torch.uint8).movedim(0, -1).cpu()
    return (pixels[..., 0] if pixels.shape[-1] == 1 else pixels).contiguous().numpy()


def _is_number(cell: Cell) -> TypeGuard[float]:
    return isinstance(cell, int | float) and not math.isnan(cell)


def _text(cell: Cell, spec: str) -> str:
    if isinstance(cell, str):
        return cell
    # exponents and signs as in print
    return format(cell, spec).replace('-', '−').replace('inf', '∞') if _is_number(cell) else '–'


def _png_uri(pixels: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format='png', optimize=True)
    return 'data:image/png;base64,' + base64.b64encode(file.getvalue()).decode()


_FOLDER = jinja2.PackageLoader('ne_basicsr.evaluation.report')
TEMPLATES = jinja2.Environment(loader=_FOLDER, autoescape=True, undefined=jinja2.StrictUndefined)
TEMPLATES.trim_blocks = TEMPLATES.lstrip_blocks = True
TEMPLATES.filters['svg'] = lambda figure, alt: Markup(figure_svg(figure, alt))
TEMPLATES.filters['png'] = _png_uri
