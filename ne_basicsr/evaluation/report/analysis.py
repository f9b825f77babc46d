"""Figures of the analysis: histograms, quality against difficulty, adaptive filters, answers against the interval."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from ne_basicsr.evaluation.report.style import (
    COLUMN_WIDTH,
    DPI,
    finish,
    fix_layout,
    new_figure,
    plot_network,
    refuse_nothing,
)

_BINS = 60


def histogram_figure(
    values: Mapping[str, ArrayLike], label: str, spans: Mapping[str, tuple[float, float]] | None = None
) -> Figure:
    """Outlines of histograms over one axis, as densities.

    Args:
        values: by what the legend says.
        label: of the horizontal axis.
        spans: for some of them, two ends that are marked below the axis line as a bar of the same colour.
    """
    figure, axes = new_figure(values, label, 'density')
    arrays = {name: array[np.isfinite(array)] for name, array in ((k, np.asarray(v)) for k, v in values.items())}
    edges = np.histogram_bin_edges(np.concatenate(list(arrays.values())), _BINS)
    handles = []
    densities = [np.histogram(each, edges, density=True)[0] for each in arrays.values()]
    peak = max(float(density.max()) for density in densities)
    for number, density in enumerate(densities):
        line = plot_network(axes, number, np.repeat(edges, 2).tolist(), [0, *np.repeat(density, 2).tolist(), 0], 1)
        line.set(marker='None', linewidth=1.2)
        handles.append(line)
    for number, name in enumerate(arrays):
        if spans and name in spans:
            ys = [-0.03 * peak * (number + 1)] * 2
            axes.plot(spans[name], ys, color=handles[number].get_color(), linewidth=2, solid_capstyle='butt')
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f'{y:g}' if y >= 0 else ''))
    return finish(figure, handles, list(arrays))


def quality_figure(curves: Mapping[str, Sequence[Mapping[str, Any]]], title: str = '') -> Figure:
    """Q against Delta, a line for each noise level, shaded by the deviation.

    Args:
        curves: by what the legend says, the rows of ``analysis.quality_curve``.
        title: above the figure, say the network.
    """
    figure, axes = new_figure(curves, 'difficulty Δ', 'residual quality Q (dB)')
    handles = []
    for number, rows in enumerate(curves.values()):
        xs, means = [row['delta'] for row in rows], [row['mean'] for row in rows]
        line = plot_network(axes, number, xs, means, len(curves))
        spread = np.array([row['deviation'] or 0.0 for row in rows])
        low, high = np.array(means) - spread, np.array(means) + spread
        axes.fill_between(xs, low, high, color=line.get_color(), alpha=0.15, linewidth=0, zorder=0)
        handles.append(line)
    return finish(figure, handles, list(curves), title)


def interval_figure(changes: Mapping[str, Mapping[str, float]]) -> Figure:
    """How much the interval changes the answer, relative to it, by network and interval, on a logarithmic axis."""
    figure, axes = new_figure(changes, 'interval [a, b]', 'relative change of the answer')
    names = list(next(iter(changes.values())))
    handles = [
        plot_network(axes, number, range(len(names)), [max(own[name], 1e-9) for name in names], len(changes))
        for number, own in enumerate(changes.values())
    ]
    axes.set_yscale('log')
    axes.set_xticks(range(len(names)), names, rotation=30, ha='right')
    return finish(figure, handles, list(changes))


def filters_figure(filters: Mapping[str, Sequence[tuple[str, NDArray[np.floating]]]]) -> Figure:
    """Adaptive filters, a row of the figure for each network; red is positive, blue negative, each on its own scale.

    Args:
        filters: by network, a short text and the filter (H, W) for each pixel.
    """
    refuse_nothing(filters)
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
