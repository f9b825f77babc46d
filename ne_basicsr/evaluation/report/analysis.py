"""What the analysis draws: histograms, quality against difficulty, adaptive filters, answers against the interval."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from ne_basicsr.evaluation.report.style import COLUMN_WIDTH, DPI, finish, frame, new_figure, plot_network

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
    if not values:
        raise ValueError('histogram_figure needs one set of values or more; got none.')
    arrays = {name: np.asarray(each, np.float64) for name, each in values.items()}
    arrays = {name: each[np.isfinite(each)] for name, each in arrays.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(arrays.values())), _BINS)
    figure, axes = new_figure()
    handles = []
    peak = 0.0
    for number, each in enumerate(arrays.values()):
        density, _ = np.histogram(each, edges, density=True)
        line = plot_network(axes, number, np.repeat(edges, 2).tolist(), [0, *np.repeat(density, 2).tolist(), 0], 1)
        line.set(marker='None', linewidth=1.2)
        handles.append(line)
        peak = max(peak, float(density.max()))
    for number, name in enumerate(arrays):
        if spans and name in spans:
            place = -0.03 * peak * (number + 1)
            axes.plot(
                spans[name], (place, place), color=handles[number].get_color(), linewidth=2, solid_capstyle='butt'
            )
    axes.set_xlabel(label, fontsize=8)
    axes.set_ylabel('density', fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f'{y:g}' if y >= 0 else ''))
    frame(axes)
    return finish(figure, handles, list(arrays))


def quality_figure(curves: Mapping[str, Sequence[Mapping[str, Any]]], title: str = '') -> Figure:
    """Q against Delta, a line for each noise level, shaded by the deviation.

    Args:
        curves: by what the legend says, the rows of ``analysis.quality_curve``.
        title: above the figure, say the network.
    """
    if not curves:
        raise ValueError('quality_figure needs one curve or more; got none.')
    figure, axes = new_figure()
    handles = []
    for number, rows in enumerate(curves.values()):
        xs, means = [row['delta'] for row in rows], [row['mean'] for row in rows]
        line = plot_network(axes, number, xs, means, len(curves))
        spread = np.array([row['deviation'] or 0.0 for row in rows])
        low, high = np.array(means) - spread, np.array(means) + spread
        axes.fill_between(xs, low, high, color=line.get_color(), alpha=0.15, linewidth=0, zorder=0)
        handles.append(line)
    axes.set_xlabel('difficulty Δ', fontsize=8)
    axes.set_ylabel('residual quality Q (dB)', fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10]))
    frame(axes)
    return finish(figure, handles, list(curves), title)


def interval_figure(changes: Mapping[str, Mapping[str, float]]) -> Figure:
    """How much the interval changes the answer, relative to it, by network and interval, on a logarithmic axis."""
    if not changes:
        raise ValueError('interval_figure needs one network or more; got none.')
    figure, axes = new_figure()
    names = list(next(iter(changes.values())))
    handles = []
    for number, by_interval in enumerate(changes.values()):
        values = [max(by_interval[name], 1e-9) for name in names]
        line = plot_network(axes, number, list(range(len(names))), values, len(changes))
        handles.append(line)
    axes.set_yscale('log')
    axes.set_xticks(range(len(names)), names, rotation=30, ha='right')
    axes.set_xlabel('interval [a, b]', fontsize=8)
    axes.set_ylabel('relative change of the answer', fontsize=8)
    frame(axes)
    return finish(figure, handles, list(changes))


def filters_figure(filters: Mapping[str, Sequence[tuple[str, NDArray[np.floating]]]]) -> Figure:
    """Adaptive filters, a row of the figure for each network; red is positive, blue negative, each on its own scale.

    Args:
        filters: by network, a short text and the filter (H, W) for each pixel.
    """
    if not filters:
        raise ValueError('filters_figure needs one network or more; got none.')
    columns = max(map(len, filters.values()))
    side = COLUMN_WIDTH / max(2, columns)
    figure = Figure(figsize=(COLUMN_WIDTH, (side + 0.28) * len(filters)), dpi=DPI, layout='constrained')
    grid = figure.subplots(len(filters), columns, squeeze=False)
    for axes_row, (name, own) in zip(grid, filters.items(), strict=True):
        for axes in axes_row:
            axes.set_axis_off()
        for number, (axes, (text, weights)) in enumerate(zip(axes_row, own, strict=False)):
            largest = float(np.abs(weights).max()) or 1.0
            axes.imshow(weights, cmap='RdBu_r', vmin=-largest, vmax=largest, interpolation='nearest')
            lines = f'{name}\n{text}' if number == 0 else f'\n{text}'
            axes.set_title(lines, fontsize=7, loc='left', parse_math=False)
    figure.draw_without_rendering()
    figure.set_layout_engine('none')
    return figure


def interval_name(a: float, b: float) -> str:
    """[a, b] for a tick."""
    return f'[{a:g}, {b:g}]'
