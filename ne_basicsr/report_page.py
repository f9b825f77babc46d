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

from ne_basicsr.report import figure_svg

Html = NewType('Html', str)
"""Escaped and well-formed, ready for the page."""

Cell = str | float | None


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
    page = _PAGE.format(style=_STYLE, title=escape(title), lead=escape(lead), blocks='\n'.join(blocks))
    path.write_text(page, encoding='utf-8', newline='\n')


def section_block(heading: str, *blocks: Html) -> Html:
    """Blocks under a heading."""
    return Html(f'<section>\n<h2>{escape(heading)}</h2>\n' + '\n'.join(blocks) + '\n</section>')


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
    marked: Mapping[int, str] | None = None,
) -> Html:
    """A table; its first column names the rows.

    Args:
        columns: header to format of the numbers below it, as in ``{'sigma': 'g', 'noisy': '.2f', 'gain': '+.2f'}``.
        rows: numbers, texts, or None for what is not known.
        caption: what the numbers are, with their unit.
        compare: headers of the columns among which the largest number of each row is set in bold.
        marked: rows to point out, by index, each with a word on why.
    """
    compared = [i for i, header in enumerate(columns) if header in compare]
    numeric = [any(isinstance(value, int | float) for value in column) for column in zip(*rows, strict=True)]
    head = ''.join(
        f'<th scope="col"{_class("number", right)}>{escape(header)}</th>'
        for header, right in zip(columns, numeric, strict=True)
    )
    body = []
    for index, row in enumerate(rows):
        texts = [_cell(value, spec) for value, spec in zip(row, columns.values(), strict=True)]
        best = _best({i: value for i in compared if (value := _number(row[i])) is not None}, texts)
        note = (marked or {}).get(index, '')
        cells = [
            f'<td{_class("number", numeric[i])}>{f"<strong>{text}</strong>" if i in best else text}</td>'
            for i, text in enumerate(texts)
        ]
        badge = f' <small>{escape(note)}</small>' if note else ''
        cells[0] = f'<th scope="row"{_class("number", numeric[0])}>{texts[0]}{badge}</th>'
        body.append(f'<tr{_class("marked", bool(note))}>{"".join(cells)}</tr>')
    return Html(
        f'<div class="wide" role="region" aria-label="{escape(caption)}" tabindex="0">\n<table>\n'
        f'<caption>{escape(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n'
        '<tbody>\n' + '\n'.join(body) + '\n</tbody>\n</table>\n</div>'
    )


def strip_block(strips: Mapping[str, Sequence[Tile]], caption: str, scale: int = 2) -> Html:
    """Images side by side, one strip under another, each pixel a square of ``scale`` pixels of the screen.

    Args:
        strips: title (say, the noise level) to images. Four crops of 128 pixels fill the page at scale 2; what is
            wider than the page or the phone is shown smaller.
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
    return None if value is None or isinstance(value, str) or math.isnan(value) else value


def _cell(value: Cell, spec: str) -> str:
    if isinstance(value, str):
        return escape(value)
    number = _number(value)
    return '–' if number is None else format(number, spec).replace('-', '−').replace('inf', '∞')


def _best(values: Mapping[int, float], texts: Sequence[str]) -> set[int]:
    """Where the largest number is; those printed alike are alike. Nowhere if that is everywhere."""
    if not values:
        return set()
    largest = max(values, key=lambda i: values[i])
    best = {i for i in values if texts[i] == texts[largest]}
    return best if len(best) < len(values) else set()


def _strip(title: str, tiles: Sequence[Tile], scale: int) -> str:
    narrow = 2 if len(tiles) % 2 == 0 else min(len(tiles), 3)
    figures = ''.join(_tile(title, *tile, scale=scale) for tile in tiles)
    return (
        f'<div class="tiles" style="--columns: {len(tiles)}; --narrow: {narrow}">\n'
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


# -- the page ----------------------------------------------------------------------------------------------------------

# the policy makes sure of what is promised: the page asks nobody for anything
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
<header>
<h1>{title}</h1>
<p class="lead">{lead}</p>
</header>
{blocks}
</main>
</body>
</html>
"""

_STYLE = """\
:root {
  color-scheme: light dark;
  --paper: #fcfcfa; --ink: #1c2126; --quiet: #59636e; --rule: #d9dde1;
  --tint: #e9f2f8; --code: #f1f3f4; --accent: #0062a0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14181c; --ink: #e4e8eb; --quiet: #9aa5af; --rule: #343c44;
    --tint: #1b2f3d; --code: #1d2329; --accent: #6bbcf0;
  }
}
* { box-sizing: border-box; }
html { font: 17px/1.6 system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif; }
body { margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: anywhere; }
main { max-width: 76rem; margin: 0 auto; padding: 3.5rem 1.25rem 5rem; }
header, p, h2, h3, pre, dl, figure, .wide { max-width: 44rem; margin-inline: auto; }
h1 { margin: 0 0 1rem; font-size: 2.3rem; line-height: 1.15; letter-spacing: -.02em; text-wrap: balance; }
h2 { margin-block: 3.5rem 1rem; font-size: 1.4rem; line-height: 1.25; letter-spacing: -.01em; }
h3 { margin-block: 1.75rem .5rem; font-size: 1rem; }
.lead { margin: 0; padding-left: 1rem; border-left: 3px solid var(--accent); font-size: 1.2rem; line-height: 1.5; }
figure { margin-block: 1.5rem; }
figure > svg { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption, caption { color: var(--quiet); font-size: .88rem; line-height: 1.5; text-align: left; }
figcaption { max-width: 44rem; margin: .9rem auto 0; }
caption { padding-bottom: .6rem; }
.wide { margin-block: 1.5rem; overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
thead, tbody { overflow-wrap: normal; }
th, td { padding: .42rem .75rem; border-bottom: 1px solid var(--rule); text-align: left; font-weight: 400; }
thead th { border-bottom: 2px solid var(--rule); color: var(--quiet); font-size: .88rem; vertical-align: bottom; }
.number { text-align: right; white-space: nowrap; }
td strong { font-weight: 700; color: var(--accent); }
.marked { background: var(--tint); print-color-adjust: exact; }
th small { color: var(--accent); font-size: .76rem; }
.number small { float: left; max-width: 9rem; margin-right: .75rem; line-height: 2.1; }
.number small { white-space: normal; overflow-wrap: anywhere; text-align: left; }
.strips { max-width: none; }
.tiles { display: grid; gap: 1rem; justify-content: center; margin-bottom: 2rem; }
.tiles h3 { grid-column: 1 / -1; max-width: none; margin: 0 0 -.5rem; }
.tiles h3, .tiles p { width: 0; min-width: 100%; } /* the images make the columns, not the words */
.tiles { grid-template-columns: repeat(var(--columns), minmax(0, max-content)); }
.tiles img { display: block; max-width: 100%; height: auto; border-radius: 3px; image-rendering: pixelated; }
.tiles p { display: flex; flex-wrap: wrap; gap: 0 .5rem; justify-content: space-between; }
.tiles p { margin: .35rem 0 0; font-size: .88rem; }
.tiles b { font-weight: 600; }
.tiles span { color: var(--quiet); font-variant-numeric: tabular-nums; }
pre { margin-block: 1rem; padding: .9rem 1.1rem; border-radius: 6px; background: var(--code); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
code { font: .84rem/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', monospace; }
dl { margin-block: 1rem; }
dl div { display: grid; grid-template-columns: 12rem 1fr; gap: 0 1.25rem; }
dl div { padding: .42rem 0; border-bottom: 1px solid var(--rule); }
dt { color: var(--quiet); }
dd { min-width: 0; margin: 0; font-variant-numeric: tabular-nums; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
@media (max-width: 40rem) {
  html { font-size: 16px; }
  main { padding: 2rem 1rem 3rem; }
  h1 { font-size: 1.8rem; }
  h2 { margin-top: 2.5rem; }
  .lead { font-size: 1.08rem; }
  table { font-size: .88rem; }
  th, td { padding-inline: .3rem; }
  thead th, thead .number { white-space: normal; font-size: .8rem; }
  .number small { float: none; display: block; margin: 0; font-size: .7rem; line-height: 1.2; text-align: right; }
  .tiles { grid-template-columns: repeat(var(--narrow), minmax(0, max-content)); gap: .75rem; }
  dl div { grid-template-columns: 1fr; }
}
@media print {
  :root {
    color-scheme: light;
    --paper: #fff; --ink: #000; --quiet: #444; --rule: #bbb; --tint: #eef4f8; --code: #f4f4f4; --accent: #0062a0;
  }
  html { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  h1, h2, h3 { break-after: avoid; }
  figure:not(.strips), .wide, .tiles, tr, pre, dl div { break-inside: avoid; }
}
"""
