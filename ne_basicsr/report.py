"""Figures: the mismatch curve as the paper draws it, and figures as files, as arrays and as SVG for pages.

Figures are plain ``matplotlib.figure.Figure`` objects, never pyplot's: nothing is global, nothing is kept, threads may
draw. They are sized for one column of a two-column paper, with text of 7 points and more. ``report_page`` makes HTML.
"""

import hashlib
import io
import math
import re
import textwrap
import threading
from collections.abc import Collection, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ne_basicsr.errors import InputError

if TYPE_CHECKING:
    from ne_basicsr.mismatch import Curve

COLUMN_WIDTH = 3.4  # inches, one column of a two-column paper
DPI = 200
SCREEN_SCALE = 2.3  # pixels of a page per point of a figure: makes 7 points the size of the page's text

# Okabe and Ito's palette, safe for colour-blind readers, without its yellow, which white paper swallows; black, which
# pages in a dark scheme turn to white, comes late
_COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000', '#8C510A')
_MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X', '*')
_DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = ('-', '-', '-.', (0, (6, 1.5)), (0, (4, 1, 1, 1, 1, 1)))
_GREY = '#808080'  # legible on white and on black
_ROUND_LEVELS = (25, 50, 10, 5, 100, 15, 75, 35, 2, 1, 20, 150, 200)  # for the sigma axis, in order of preference


def mismatch_figure(curves: Mapping[str, 'Curve'], training_levels255: Sequence[float] = (), title: str = '') -> Figure:
    """Output against input PSNR, one line per network, with the identity and the noise levels of the training.

    Args:
        curves: by the network's name. Levels that are not finite (sigma 0, a network that diverged) are left out.
        training_levels255: levels of the training, in 8-bit units, marked by vertical lines at their input PSNR,
            interpolated between the tested ones. Level 0 is infinitely far to the right and gets no line.
        title: above the figure, if any.
    """
    if not curves:
        raise ValueError('mismatch_figure needs one curve or more; got none.')
    figure = Figure(figsize=(COLUMN_WIDTH, 2.5), dpi=DPI, layout='constrained')
    axes = figure.add_subplot()
    handles = [_plot_curve(axes, i, curve) for i, curve in enumerate(curves.values())]
    labels = list(curves)

    trained = {level: input_psnr(level, curves.values()) for level in training_levels255 if level > 0}
    x_limits = _limits([x for curve in curves.values() for x in curve.psnr_in] + list(trained.values()))
    verticals = [axes.axvline(x, color='black', linewidth=0.8, linestyle=':', zorder=1) for x in trained.values()]
    if verticals:
        handles.append(verticals[0])
        labels.append('training σ = ' + ', '.join(f'{level:.4g}' for level in training_levels255))
    handles += axes.plot(x_limits, x_limits, color=_GREY, linewidth=1, linestyle='--', zorder=1)
    labels.append('noisy input (identity)')

    axes.set_xlim(x_limits)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True))
    axes.set_xlabel('input PSNR (dB)', fontsize=8)
    axes.set_ylabel('output PSNR (dB)', fontsize=8)
    _sigma_axis(axes, curves.values(), trained)
    _legend(figure, handles, labels)
    if title:
        axes.set_title(textwrap.fill(title, 40), fontsize=8.5, parse_math=False)
    figure.draw_without_rendering()
    figure.set_layout_engine('none')  # the layout would move a little at each drawing
    return figure


def input_psnr(level255: float, curves: Collection['Curve']) -> float:
    """The input PSNR (dB) of a noise level, by interpolation between the levels that the curves were tested at.

    What is interpolated, over log sigma, is the distance to -20 log10 sigma, the PSNR of unclipped noise of deviation
    sigma: it is constant, so the result is exact beyond the tested levels, too.
    """
    nominal = -20 * math.log10(level255 / 255)
    tested = sorted(
        (math.log(level), psnr + 20 * math.log10(level / 255))
        for curve in curves
        for level, psnr in zip(curve.sigma255, curve.psnr_in, strict=True)
        if level > 0 and math.isfinite(psnr)
    )
    if not tested:
        return nominal
    return nominal + float(np.interp(math.log(level255), [s for s, _ in tested], [d for _, d in tested]))


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG or PDF, by the suffix; equal figures, equal bytes. Makes the folders above."""
    path = Path(path)
    kind = path.suffix.lower().removeprefix('.')
    if kind not in ('png', 'pdf'):
        raise InputError(f'figures are written as .png or .pdf; got {path.name!r}')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_render(figure, kind))


def figure_array(figure: Figure) -> NDArray[np.uint8]:
    """The figure as pixels, (H, W, 3), for TensorBoard."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def figure_svg(figure: Figure, alt: str) -> str:
    """The figure as an ``<svg>`` element for a page: transparent, black ink in the colour of the text around it.

    Args:
        figure: equal figures give equal elements; ids of different figures do not meet in one page.
        alt: what the figure shows, for those who do not see it.
    """
    rendered = _render(figure, 'svg').decode()
    body = rendered[rendered.index('>', rendered.index('<svg')) + 1 :].strip()
    body = re.sub(r'<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->', '', body, flags=re.DOTALL)
    prefix = hashlib.blake2b(body.encode(), digest_size=4).hexdigest()
    body = re.sub(r'( id="| xlink:href="#|url\(#)', rf'\g<1>f{prefix}-', body).replace('xlink:href', 'href')
    body = body.replace('#000000', 'currentColor')
    width, height = (72 * inches for inches in figure.get_size_inches())
    size = f'width="{SCREEN_SCALE * width:.0f}" viewBox="0 0 {width:g} {height:g}"'
    inherited = 'fill="currentColor" stroke-linejoin="round" stroke-linecap="butt"'
    return f'<svg {size} role="img" aria-label="{escape(alt)}" {inherited}>{body}'


# -- parts of the mismatch figure --------------------------------------------------------------------------------------


def _plot_curve(axes: Axes, number: int, curve: 'Curve') -> Line2D:
    points = [p for p in zip(curve.psnr_in, curve.psnr_out, strict=True) if all(map(math.isfinite, p))]
    marker = _MARKERS[(number + number // len(_MARKERS)) % len(_MARKERS)]
    (line,) = axes.plot(
        [x for x, _ in points],
        [y for _, y in points],
        color=_COLOURS[number % len(_COLOURS)],
        linestyle=_DASHES[number % len(_DASHES)],
        linewidth=1.3,
        marker=marker,
        markersize=4.5 if marker in 'PX*' else 3.2,
        markeredgewidth=0,
    )
    return line


def _limits(values: Sequence[float], least_span: float = 6.0) -> tuple[float, float]:
    """Round what there is to draw by 4%, and to ``least_span`` around a single point."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    margin = max(0.04 * (high - low), (least_span - (high - low)) / 2)
    return low - margin, high + margin


def _sigma_axis(axes: Axes, curves: Collection['Curve'], trained: Mapping[float, float]) -> None:
    """The noise levels on top: those of the training, tested whole numbers, round ones, as far as there is room."""
    low, high = axes.get_xlim()
    tested = {level for curve in curves for level in curve.sigma255 if level == round(level) and level > 0}
    ticks: dict[float, str] = {}
    for level in (*trained, *sorted(tested, key=lambda s: (s not in _ROUND_LEVELS, s)), *_ROUND_LEVELS):
        x = input_psnr(level, curves)
        if low <= x <= high and all(abs(x - other) > 0.085 * (high - low) for other in ticks):
            ticks[x] = f'{level:.4g}'
    top = axes.secondary_xaxis('top')
    top.set_xticks(list(ticks), list(ticks.values()))
    top.set_xlabel('noise level σ (of 255)', fontsize=8)
    for tick, x in zip(top.get_xticklabels(), ticks, strict=True):
        tick.set_fontweight('bold' if x in trained.values() else 'normal')
    for each in (axes, top):
        each.tick_params(labelsize=7, width=0.6, length=2.5)
    for spine in (*axes.spines.values(), *top.spines.values()):
        spine.set_linewidth(0.6)
    axes.grid(color=_GREY, alpha=0.25, linewidth=0.5)


def _legend(figure: Figure, handles: Sequence[Line2D], labels: Sequence[str]) -> None:
    """Below the axes, where it covers nothing; the figure grows by its height. Names appear as they are."""
    wrapped = [textwrap.fill(label, 52) for label in labels]
    columns = 2 if max(map(len, labels)) <= 24 else 1
    lines = sum(label.count('\n') + 1 for label in wrapped)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.14 * math.ceil(lines / columns))
    legend = figure.legend(
        handles, [str(i) for i in range(len(labels))], loc='outside lower center', ncols=columns, fontsize=7,
        frameon=False, handlelength=2.6, borderpad=0.1, labelspacing=0.35, columnspacing=1.4,
    )  # fmt: skip
    for text, label in zip(legend.get_texts(), wrapped, strict=True):  # set now: Legend drops names that start with _
        text.set_text(label)
        text.set_parse_math(False)


# -- files ------------------------------------------------------------------------------------------------------------

_RENDERING = threading.Lock()


def _render(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    undated = {'png': {}, 'pdf': {'CreationDate': None}, 'svg': {'Date': None}}[kind]
    # fonttype 42: publishers refuse the default Type 3 fonts; hashsalt: ids in SVG would be random
    with _RENDERING, matplotlib.rc_context({'pdf.fonttype': 42, 'svg.hashsalt': 'ne_basicsr'}):
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=undated, transparent=kind == 'svg')
    return buffer.getvalue()
