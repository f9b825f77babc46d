"""The look that all figures share: one colour, dash and marker per network, thin frames, a legend below."""

import math
import textwrap
from collections.abc import Mapping, Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

Line = tuple[Sequence[float], Sequence[float]]
"""Horizontal and vertical places."""

COLUMN_WIDTH = 3.4  # inches, one column of a two-column paper
DPI = 200
GREY = '#808080'  # legible on white and on black
BAND = '#0072B2'

# Okabe and Ito's palette, safe for colour-blind readers, without its yellow, which white paper swallows; black, which
# pages in a dark scheme turn to white, comes late
_COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000', '#8C510A')
_MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X', '*')
_DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = ('-', '-', '-.', (0, (6, 1.5)), (0, (4, 1, 1, 1, 1, 1)))
_FEW = 6  # networks
_MARKERS_IN_ALL = 90  # more than that on the lines of a figure hide each other


def line_figure(
    lines: Mapping[str, Line], x: str, y: str, names: Sequence[str] = ()
) -> tuple[Figure, Axes, dict[str, Line2D]]:
    """A figure, one column wide, with a line for each network, by its name; ``finish`` completes it.

    ``x`` and ``y`` are labels; ``names`` as for ``mismatch_figure``.
    """
    assert lines, 'a figure shows one network or more'
    figure = Figure(figsize=(COLUMN_WIDTH, 2.5), dpi=DPI, layout='constrained')
    axes = figure.add_subplot()
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10]))
    order = list(names or lines)
    return figure, axes, {k: _plot_network(axes, order.index(k), *line, len(lines)) for k, line in lines.items()}


def _plot_network(axes: Axes, number: int, xs: Sequence[float], ys: Sequence[float], networks: int) -> Line2D:
    """The line of the network of that number, of so many, through the points that are finite."""
    points = [p for p in zip(xs, ys, strict=True) if all(map(math.isfinite, p))]
    marker = _MARKERS[(number + number // len(_MARKERS)) % len(_MARKERS)]
    # where lines coincide, the edges of those drawn first show beneath those drawn later
    rank = max(0, min(networks - 1 - number, 3)) if networks <= _FEW else 0
    every = max(1, math.ceil(networks * len(points) / _MARKERS_IN_ALL))
    (line,) = axes.plot(
        [x for x, _ in points], [y for _, y in points], color=_COLOURS[number % len(_COLOURS)],
        linestyle=_DASHES[number % len(_DASHES)], linewidth=1.3 + 0.25 * rank, marker=marker, markeredgewidth=0,
        markersize=(4.5 if marker in 'PX*' else 3.2) + 0.6 * rank,
        markevery=(number % every, every) if len(points) > every else None,  # staggered
    )  # fmt: skip
    return line


def limits(values: Sequence[float], least_span: float = 6.0) -> tuple[float, float]:
    """The range of the values with 4% of room, and ``least_span`` around a single point."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    margin = max(0.04 * (high - low), (least_span - (high - low)) / 2)
    return low - margin, high + margin


def finish(figure: Figure, shown: Mapping[str, Artist], title: str = '') -> Figure:
    """Thin frames, light grid, small numbers, legend of what is ``shown``, title; after it the layout is fixed."""
    axes = figure.axes[0]
    for each in (axes, *axes.child_axes):
        each.tick_params(which='both', labelsize=7, width=0.6, length=2.5)
        each.tick_params(which='minor', width=0.4, length=1.5)
        for spine in each.spines.values():
            spine.set_linewidth(0.6)
    axes.grid(color=GREY, alpha=0.25, linewidth=0.5)
    # the legend is below the axes, where it covers nothing; the figure grows by its height
    wrapped = [textwrap.fill(label, 52) for label in shown]
    columns = 2 if max(map(len, shown)) <= 24 else 1
    lines = sum(label.count('\n') + 1 for label in wrapped)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.14 * math.ceil(lines / columns))
    legend = figure.legend(
        [*shown.values()], ['.'] * len(shown), loc='outside lower center', ncols=columns, fontsize=7, frameon=False,
        handlelength=2.6, borderpad=0.1, labelspacing=0.35, columnspacing=1.4,
    )  # fmt: skip
    for text, label in zip(legend.get_texts(), wrapped, strict=True):  # set now: Legend drops names that start with _
        text.set_text(label)
        text.set_parse_math(False)
    if title:
        axes.set_title(textwrap.fill(title, 40), fontsize=8.5, parse_math=False)
    fix_layout(figure)
    return figure


def fix_layout(figure: Figure) -> None:
    """Lay the figure out once; otherwise it would move a little at each drawing."""
    figure.draw_without_rendering()
    figure.set_layout_engine('none')
