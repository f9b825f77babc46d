"""Figures as PNG and PDF files, as arrays and as SVG; equal figures, equal bytes."""

import hashlib
import io
import re
import threading
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ne_basicsr.evaluation.report.style import DPI

SCREEN_SCALE = 2.3  # pixels of a page per point of a figure: makes 7 points the size of the page's text

_RENDERING = threading.Lock()


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as .png or .pdf; equal figures, equal bytes. Makes the folders above."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_render(figure, path.suffix[1:]))


def save_figures(figures: Mapping[str, Figure], folder: Path, known: Iterable[str] = ()) -> None:
    """Write each figure as ``<name>.png`` and ``<name>.pdf``; remove others of an earlier run.

    ``known`` are the names that figures may have, ``*`` for anything.
    """
    for kind in ('png', 'pdf'):
        for name, figure in figures.items():
            save_figure(figure, folder / f'{name}.{kind}')
        for path in [path for name in known for path in folder.glob(f'{name}.{kind}')]:
            if path.stem not in figures:
                path.unlink()


def figure_array(figure: Figure) -> NDArray[np.uint8]:
    """The figure as pixels, (H, W, 3), for TensorBoard."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def figure_svg(figure: Figure, alt: str) -> str:
    """The figure as an ``<svg>`` element for a page: transparent, black ink in the colour of the text around it.

    Equal figures give equal elements; figures in one page that look alike need different ``alt`` texts, which say what
    they show for screen readers.
    """
    rendered = _render(figure, 'svg').decode()
    body = rendered[rendered.index('>', rendered.index('<svg')) + 1 :].strip()
    body = re.sub(r'<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->', '', body, flags=re.DOTALL)
    prefix = hashlib.blake2b((alt + body).encode(), digest_size=4).hexdigest()
    body = re.sub(r'( id="| xlink:href="#|url\(#)', rf'\g<1>f{prefix}-', body).replace('xlink:href', 'href')
    body = body.replace('#000000', 'currentColor')
    width, height = (72 * inches for inches in figure.get_size_inches())
    size = f'width="{SCREEN_SCALE * width:.0f}" viewBox="0 0 {width:g} {height:g}"'
    inherited = 'fill="currentColor" stroke-linejoin="round" stroke-linecap="butt"'
    return f'<svg {size} role="img" aria-label="{escape(alt)}" {inherited}>{body}'


def _render(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    undated = {'png': {}, 'pdf': {'CreationDate': None}, 'svg': {'Date': None}}[kind]
    # fonttype 42: publishers refuse the default Type 3 fonts; hashsalt: ids in SVG would be random
    with _RENDERING, matplotlib.rc_context({'pdf.fonttype': 42, 'svg.hashsalt': 'ne_basicsr'}):
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=undated, transparent=kind == 'svg')
    return buffer.getvalue()
