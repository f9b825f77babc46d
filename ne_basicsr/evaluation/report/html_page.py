"""Pages: one self-contained HTML file from blocks. No scripts, no requests; light, dark, phone and paper.

A block is a fragment of HTML from one of the functions here; whatever text they are given appears as it is, escaped.
"""

import base64
import io
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple, NewType

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ne_basicsr.evaluation.report import figure_svg
from ne_basicsr.evaluation.report.html_style import PAGE, STYLE

Html = NewType('Html', str)
"""Escaped and well-formed, ready for the page."""


class Link(NamedTuple):
    """Text that leads to a section of the page, by its anchor."""

    text: str
    anchor: str


Cell = str | float | Link | None

_MOST_COLUMNS = 5  # of a strip


class Tile(NamedTuple):
    """One image of a strip, with two short texts below it.

    The image is an array (H, W) or (H, W, 3) or a tensor (C, H, W), on [0, 1], clipped for display.
    """

    image: NDArray[np.floating] | Tensor
    label: str
    note: str = ''


def write_page(path: str | Path, title: str, lead: str, blocks: Iterable[Html]) -> None:
    """Write the page; ``lead`` says in a sentence or two what was found. Makes the folders above."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    page = PAGE.format(style=STYLE, title=escape(title), lead=escape(lead), blocks='\n'.join(blocks))
    path.write_text(page, encoding='utf-8', newline='\n')


def section_block(heading: str, *blocks: Html, anchor: str = '') -> Html:
    """Blocks under a heading; ``anchor`` is what links lead to, of letters, digits, - and _, once in a page."""
    start = f'<section id="{escape(anchor)}">' if anchor else '<section>'
    return Html(f'{start}\n<h2>{escape(heading)}</h2>\n' + '\n'.join(blocks) + '\n</section>')


def contents_block(groups: Sequence[tuple[str, Sequence[Link]]]) -> Html:
    """A table of contents: links to sections in groups, each with a word for it."""
    items = []
    for name, links in groups:
        items.append(f'<li><b>{escape(name)}</b> <span>{" ".join(map(_link, links))}</span></li>')
    return Html('<nav aria-label="Contents">\n<ul>\n' + '\n'.join(items) + '\n</ul>\n</nav>')


def warning_block(heading: str, lines: Sequence[str]) -> Html:
    """What went wrong, to be seen."""
    items = '\n'.join(f'<li>{escape(line)}</li>' for line in lines)
    return Html(f'<aside class="warning">\n<p><b>{escape(heading)}</b></p>\n<ul>\n{items}\n</ul>\n</aside>')


def fold_block(title: str, *blocks: Html, is_open: bool = False) -> Html:
    """Blocks that a click on their title shows or hides."""
    start = '<details open>' if is_open else '<details>'
    return Html(f'{start}\n<summary>{escape(title)}</summary>\n' + '\n'.join(blocks) + '\n</details>')


def row_block(*blocks: Html) -> Html:
    """Figures side by side where there is room, one under another where there is not."""
    return Html('<div class="row">\n' + '\n'.join(blocks) + '\n</div>')


def text_block(*paragraphs: str) -> Html:
    """Running text."""
    return Html('\n'.join(f'<p>{escape(paragraph)}</p>' for paragraph in paragraphs))


def code_block(text: str) -> Html:
    """Commands or option files, line by line as they are."""
    return Html(f'<pre><code>{escape(text)}</code></pre>')


def facts_block(facts: Mapping[str, str]) -> Html:
    """Settings, times, versions: names with values."""
    items = (f'<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>' for name, value in facts.items())
    return Html('<dl>\n' + '\n'.join(items) + '\n</dl>')


def figure_block(figure: Figure, caption: str, alt: str = '') -> Html:
    """A figure with its caption; ``alt`` says what it shows where the caption does not."""
    svg = figure_svg(figure, alt or caption)
    return Html(f'<figure>\n{svg}\n<figcaption>{escape(caption)}</figcaption>\n</figure>')


def table_block(
    columns: Mapping[str, str],
    rows: Sequence[Sequence[Cell]],
    caption: str,
    *,
    compare: Collection[str] = (),
    best: Mapping[str, str] | None = None,
    reference: Collection[int] = (),
    marked: Mapping[int, str] | None = None,
) -> Html:
    """A table; its first column names the rows.

    Args:
        columns: header to format of the numbers below it, as in ``{'sigma': 'g', 'noisy': '.2f', 'gain': '+.2f'}``.
        rows: numbers, texts, links, or None for what is not known.
        caption: what the numbers are, with their unit.
        compare: headers of the columns among which the largest number of each row is set in bold.
        best: headers of the columns whose ``highest`` or ``lowest`` number is set in bold.
        reference: rows that are no candidates for it, by index.
        marked: rows to point out, by index, each with a word on why.
    """
    numeric = [any(isinstance(value, int | float) for value in column) for column in zip(*rows, strict=True)]
    numeric = numeric or [False] * len(columns)
    head = ''.join(
        f'<th scope="col"{_class("number", right)}>{escape(header)}</th>'
        for header, right in zip(columns, numeric, strict=True)
    )
    texts = [[_cell(value, spec) for value, spec in zip(row, columns.values(), strict=True)] for row in rows]
    bold = _bold(list(columns), rows, texts, compare, best or {}, reference)
    body = []
    for index, row in enumerate(texts):
        note = (marked or {}).get(index, '')
        cells = [
            f'<td{_class("number", numeric[i])}>{f"<strong>{text}</strong>" if (index, i) in bold else text}</td>'
            for i, text in enumerate(row)
        ]
        badge = f' <small>{escape(note)}</small>' if note else ''
        cells[0] = f'<th scope="row"{_class("number", numeric[0])}>{row[0]}{badge}</th>'
        body.append(f'<tr{_class("marked", bool(note))}>{"".join(cells)}</tr>')
    return Html(
        f'<div class="wide{" broad" if len(columns) > 6 else ""}" role="region" aria-label="{escape(caption)}"'
        f' tabindex="0">\n<table>\n'
        f'<caption><span>{escape(caption)}</span></caption>\n<thead><tr>{head}</tr></thead>\n'
        '<tbody>\n' + '\n'.join(body) + '\n</tbody>\n</table>\n</div>'
    )


def strip_block(strips: Mapping[str, Sequence[Tile]], caption: str, scale: int = 2) -> Html:
    """Images side by side, one strip under another, each pixel a square of ``scale`` pixels of the screen.

    Args:
        strips: title (say, the noise level) to images. Four crops of 128 pixels fill the page at scale 2; more
            than five take several rows; what is wider than the page or the phone is shown smaller.
        caption: what the images are.
        scale: how much the images are enlarged.
    """
    return Html(
        '<figure class="strips">\n'
        + '\n'.join(_strip(title, tiles, scale) for title, tiles in strips.items())
        + f'\n<figcaption>{escape(caption)}</figcaption>\n</figure>'
    )


# -- parts -------------------------------------------------------------------------------------------------------------


def _class(name: str, given: bool) -> str:
    return f' class="{name}"' if given else ''


def _number(value: Cell) -> float | None:
    return None if value is None or isinstance(value, str | Link) or math.isnan(value) else value


def _cell(value: Cell, spec: str) -> str:
    if isinstance(value, Link):
        return _link(value)
    if isinstance(value, str):
        return escape(value)
    number = _number(value)
    # exponents and signs as in print
    return '–' if number is None else format(number, spec).replace('-', '−').replace('inf', '∞')


def _link(link: Link) -> str:
    return f'<a href="#{escape(link.anchor)}">{escape(link.text)}</a>'


def _bold(
    headers: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    texts: Sequence[Sequence[str]],
    compare: Collection[str],
    best: Mapping[str, str],
    reference: Collection[int],
) -> set[tuple[int, int]]:
    """(row, column) of the best numbers: of the compared columns in each row, and in each column that has a best."""
    numbers = {
        (y, x): n for y, row in enumerate(rows) for x, cell in enumerate(row) if (n := _number(cell)) is not None
    }
    printed = {(y, x): texts[y][x] for y, x in numbers}
    compared = [x for x, header in enumerate(headers) if header in compare]
    bold: set[tuple[int, int]] = set()
    for y in range(len(rows)):
        bold |= _best({(y, x): numbers[y, x] for x in compared if (y, x) in numbers}, printed)
    for x, header in enumerate(headers):
        if header in best:
            sign = {'highest': 1, 'lowest': -1}[best[header]]
            candidates = [y for y in range(len(rows)) if y not in reference and (y, x) in numbers]
            bold |= _best({(y, x): sign * numbers[y, x] for y in candidates}, printed)
    return bold


def _best(values: Mapping[tuple[int, int], float], texts: Mapping[tuple[int, int], str]) -> set[tuple[int, int]]:
    """Where the largest number is; those printed alike are alike. Nowhere if that is everywhere."""
    if not values:
        return set()
    largest = max(values, key=lambda place: values[place])
    best = {place for place in values if texts[place] == texts[largest]}
    return best if len(best) < len(values) else set()


def _strip(title: str, tiles: Sequence[Tile], scale: int) -> str:
    columns = math.ceil(len(tiles) / math.ceil(len(tiles) / _MOST_COLUMNS))  # rows of equal length
    narrow = 2 if len(tiles) % 2 == 0 else min(len(tiles), 3)
    figures = ''.join(_tile(title, *tile, scale=scale) for tile in tiles)
    return (
        f'<div class="tiles" style="--columns: {columns}; --narrow: {narrow}">\n'
        f'<h3>{escape(title)}</h3>\n{figures}</div>'
    )


def _tile(title: str, image: NDArray[np.floating] | Tensor, label: str, note: str = '', *, scale: int) -> str:
    pixels = display_pixels(image)
    height, width = (scale * n for n in pixels.shape[:2])
    alt = ', '.join(text for text in (title, label, note) if text)
    return (
        f'<div><img src="{_png_uri(pixels)}" width="{width}" height="{height}" alt="{escape(alt)}">'
        f'<p><b>{escape(label)}</b> <span>{escape(note)}</span></p></div>\n'
    )


def display_pixels(image: NDArray[np.floating] | Tensor) -> NDArray[np.uint8]:
    """An image on [0, 1], (H, W), (H, W, 3) or a tensor (C, H, W), as 8-bit (H, W) or (H, W, 3), clipped.

    Raises:
        ValueError: for another shape.
    """
    if isinstance(image, Tensor):
        tensor = image.detach().float().cpu()
        array = (tensor.movedim(0, -1) if tensor.ndim == 3 else tensor).numpy()
    else:
        array = np.asarray(image)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise ValueError(
            f'an image is an array (H, W) or (H, W, 3), or a tensor (1 or 3, H, W); got {tuple(image.shape)}.'
        )
    return np.rint(np.clip(np.nan_to_num(array), 0, 1) * 255).astype(np.uint8)


def _png_uri(pixels: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format='png', optimize=True)
    return 'data:image/png;base64,' + base64.b64encode(file.getvalue()).decode()
