"""Figures of the analysis (histograms, quality, adaptive filters, intervals) and of a sampler's walks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from ne_basicsr.evaluation.report.style import COLUMN_WIDTH, DPI, finish, fix_layout, limits, line_figure

_BINS = 60


def histogram_figure(
    values: Mapping[str, ArrayLike], label: str, spans: Mapping[str, tuple[float, float]] | None = None
) -> Figure:
    """Outlines of histograms, by what the legend says, over an axis with a ``label``, as densities.

    ``spans`` are two ends for some of them, marked below the axis line as a bar of the same colour.
    """
    arrays = {name: array[np.isfinite(array)] for name, array in ((k, np.asarray(v)) for k, v in values.items())}
    edges = np.histogram_bin_edges(np.concatenate(list(arrays.values())), _BINS)
    densities = {name: np.histogram(each, edges, density=True)[0] for name, each in arrays.items()}
    peak = max(float(density.max()) for density in densities.values())
    xs = np.repeat(edges, 2).tolist()
    lines = {name: (xs, [0, *np.repeat(density, 2).tolist(), 0]) for name, density in densities.items()}
    figure, axes, shown = line_figure(lines, label, 'density')
    for number, (name, line) in enumerate(shown.items(), 1):
        line.set(marker='None', linewidth=1.2)
        if spans and name in spans:
            ys = [-0.03 * peak * number] * 2
            axes.plot(spans[name], ys, color=line.get_color(), linewidth=2, solid_capstyle='butt')
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f'{y:g}' if y >= 0 else ''))
    return finish(figure, shown)


def quality_figure(curves: Mapping[str, Sequence[Mapping[str, Any]]], title: str = '') -> Figure:
    """Q against Delta, a line for each noise level, shaded by the deviation, from rows of ``quality_curve``."""
    lines = {name: ([row['delta'] for row in rows], [row['mean'] for row in rows]) for name, rows in curves.items()}
    figure, axes, shown = line_figure(lines, 'difficulty Δ', 'residual quality Q (dB)')
    for line, rows, (xs, means) in zip(shown.values(), curves.values(), lines.values(), strict=True):
        spread = np.array([row['deviation'] or 0.0 for row in rows])
        low, high = np.array(means) - spread, np.array(means) + spread
        axes.fill_between(xs, low, high, color=line.get_color(), alpha=0.15, linewidth=0, zorder=0)
    return finish(figure, shown, title)


def interval_figure(changes: Mapping[str, Mapping[str, float]]) -> Figure:
    """How much the interval changes the answer, relative to it, by network and interval, on a logarithmic axis."""
    names = list(next(iter(changes.values())))
    lines = {label: (range(len(names)), [max(own[name], 1e-9) for name in names]) for label, own in changes.items()}
    figure, axes, shown = line_figure(lines, 'interval [a, b]', 'relative change of the output')
    axes.set_yscale('log')
    axes.set_xticks(range(len(names)), names, rotation=30, ha='right')
    return finish(figure, shown)


def filters_figure(filters: Mapping[str, Sequence[tuple[str, NDArray[np.floating]]]]) -> Figure:
    """Adaptive filters, a row of the figure for each network; red is positive, blue negative, each on its own scale.

    ``filters`` has, by network, a short text and the filter (H, W) for each pixel.
    """
    columns = max(map(len, filters.values()))
    side = COLUMN_WIDTH / max(2, columns)
    figure = Figure(figsize=(COLUMN_WIDTH, (side + 0.28) * len(filters)), dpi=DPI, layout='constrained')
    grid = figure.subplots(len(filters), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes_row, (name, own) in zip(grid, filters.items(), strict=True):
        for number, (axes, (text, weights)) in enumerate(zip(axes_row, own, strict=False)):
            largest = float(np.abs(weights).max()) or 1.0
            axes.imshow(weights, cmap='RdBu_r', vmin=-largest, vmax=largest, interpolation='nearest')
            lines = f'{name}\n{text}' if number == 0 else f'\n{text}'
            axes.set_title(lines, fontsize=7, loc='left', parse_math=False)
    fix_layout(figure)
    return figure


def trajectory_figure(walks: Mapping[str, Sequence[Sequence[float]]], label: str, *, log: bool = False) -> Figure:
    """A measure against the step: every walk of a network thin, their mean thick.

    A walk that has ended counts for the mean with its last value.
    """
    longest = max(len(walk) for own in walks.values() for walk in own)
    lines = {
        name: (range(steps), [sum(walk[min(step, len(walk) - 1)] for walk in own) / len(own) for step in range(steps)])
        for name, own in walks.items()
        for steps in [max(map(len, own))]
    }
    figure, axes, shown = line_figure(lines, 'step', label)
    for line, own in zip(shown.values(), walks.values(), strict=True):
        for each in own if len(own) > 1 else []:
            axes.plot(range(len(each)), each, color=line.get_color(), linewidth=0.5, alpha=0.35, zorder=1)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True))
    axes.set_xlim(limits([0.0, longest - 1.0], 4.0))
    if log:
        axes.set_yscale('log')
    return finish(figure, shown)
