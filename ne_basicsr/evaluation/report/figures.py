"""What figures show: PSNR as the paper draws it, SSIM in the same form, the defect of equivariance against the level.

Over noise, JPEG and photons the horizontal axis is the input PSNR, with the levels on top; over a gain or an offset,
which leave the input PSNR as it is, it is the level.
"""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from ne_basicsr.evaluation.report.horizontal import Horizontal, legend_labels
from ne_basicsr.evaluation.report.style import (
    GREY,
    finish,
    frame,
    new_figure,
    plot_identity,
    plot_network,
    plot_verticals,
)
from ne_basicsr.metrics.curves import Curve

Measured = Mapping[str, Mapping[float, float]]
"""By the network's name, level to value."""

FLOAT32_ROUNDING = 1e-5
"""Defects below it are rounding: deep networks that are exactly equivariant show 2e-7 to 2e-6 in float32."""

_DEEPEST = 15.0  # dB below the identity; a line that goes on below would flatten all others
_SMALLEST_DEFECT = 1e-9  # what is exact is drawn there, on the logarithmic axis


def mismatch_figure(
    curves: Mapping[str, Curve],
    training_levels255: Sequence[float] = (),
    title: str = '',
    *,
    unit: str = 'sigma255',
    names: Sequence[str] = (),
) -> Figure:
    """Output against input PSNR, one line per network, with the identity and the noise levels of the training.

    Args:
        curves: by the network's name. Levels that are not finite (sigma 0, a network that diverged) are left out.
        training_levels255: levels of the training, in 8-bit units, marked by vertical lines at their input PSNR,
            interpolated between the tested ones. Level 0 is infinitely far to the right and gets no line. With other
            units than ``sigma255`` they are not marked.
        title: above the figure, if any.
        unit: of the curves' levels, see ``degradations.KINDS``.
        names: the networks of all figures that belong together, in the order that gives each its colour and marker;
            where not given, those of ``curves``.
    """
    if not curves:
        raise ValueError('mismatch_figure needs one curve or more; got none.')
    over = Horizontal.of_input(unit, curves.values(), training_levels255)
    figure, axes = new_figure()
    numbers = _numbers(names or list(curves))
    handles = []
    for name, curve in curves.items():
        xs = over.places(curve.levels) if over.is_level else curve.psnr_in
        handles.append(plot_network(axes, numbers[name], xs, curve.psnr_out, len(curves)))
    verticals = plot_verticals(axes, over.marked)
    identity = max(curves.values(), key=lambda curve: len(curve.levels))
    ends = (over.places(identity.levels), identity.psnr_in) if over.is_level else (over.limits(), over.limits())
    dashed = plot_identity(axes, *ends)
    _leave_out_what_is_far_below(axes, curves.values())
    axes.set_ylabel('output PSNR (dB)', fontsize=8)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True))
    frame(axes, *over.draw(axes))
    return finish(figure, *_legend(unit, training_levels255, list(curves), handles, verticals, dashed), title)


def ssim_figure(
    ssim: Measured,
    identity: Curve,
    identity_ssim: Mapping[float, float],
    training_levels255: Sequence[float] = (),
    *,
    unit: str = 'sigma255',
    names: Sequence[str] = (),
) -> Figure:
    """SSIM of the output in the form of ``mismatch_figure``; the dashed line is that of the input.

    Args:
        ssim: of each network, mean by level.
        identity: the curve of the image left as it is, which says where the levels lie.
        identity_ssim: of the input, mean by level.
        training_levels255, unit, names: as for ``mismatch_figure``.
    """
    over = Horizontal.of_input(unit, [identity], training_levels255)
    figure, axes = new_figure()
    numbers = _numbers(names or list(ssim))
    handles = [
        plot_network(axes, numbers[name], over.places(values), list(values.values()), len(ssim))
        for name, values in ssim.items()
    ]
    verticals = plot_verticals(axes, over.marked)
    dashed = plot_identity(axes, over.places(identity_ssim), list(identity_ssim.values()))
    axes.set_ylabel('output SSIM', fontsize=8)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    frame(axes, *over.draw(axes))
    return finish(figure, *_legend(unit, training_levels255, list(ssim), handles, verticals, dashed))


def defect_figure(
    defects: Measured, training_levels255: Sequence[float] = (), *, unit: str = 'sigma255', names: Sequence[str] = ()
) -> Figure:
    """Defect of normalization equivariance against the level; what lies in the shaded region is rounding.

    Args:
        defects: of each network, mean by level, where it was measured.
        training_levels255, unit, names: as for ``mismatch_figure``.
    """
    over = Horizontal.of_levels(unit, [level for values in defects.values() for level in values], training_levels255)
    figure, axes = new_figure()
    numbers = _numbers(names or list(defects))
    handles = []
    for name, values in defects.items():
        shown = [max(value, _SMALLEST_DEFECT) for value in values.values()]  # NaN stays
        handles.append(plot_network(axes, numbers[name], over.places(values), shown, len(defects)))
    verticals = plot_verticals(axes, over.marked)
    drawn = [value for line in handles for value in np.asarray(line.get_ydata()).tolist()]
    low, high = 10.0 ** math.floor(math.log10(min([*drawn, 1e-7]))), 2 * max([*drawn, 0.1])
    axes.set_yscale('log')
    axes.set_ylim(0.6 * low, high)
    axes.yaxis.set_major_locator(LogLocator(numticks=8))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.axhspan(0.6 * low, FLOAT32_ROUNDING, color=GREY, alpha=0.18, linewidth=0, zorder=0)
    axes.text(
        0.02, 1.1 * FLOAT32_ROUNDING, 'shaded: rounding of float32', fontsize=7, va='bottom', ha='left', zorder=1,
        transform=axes.get_yaxis_transform(),
    )  # fmt: skip
    axes.set_ylabel('NE defect', fontsize=8)
    frame(axes, *over.draw(axes))
    return finish(figure, *_legend(unit, training_levels255, list(defects), handles, verticals, None))


# -- parts -------------------------------------------------------------------------------------------------------------


def _numbers(names: Sequence[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def _leave_out_what_is_far_below(axes: Axes, curves: Collection[Curve]) -> None:
    inputs = [x for curve in curves for x in curve.psnr_in if math.isfinite(x)]
    outputs = [y for curve in curves for y in curve.psnr_out if math.isfinite(y)]
    if inputs and outputs and min(outputs) < min(inputs) - _DEEPEST:
        axes.set_ylim(bottom=min(inputs) - _DEEPEST)


def _legend(
    unit: str,
    training_levels255: Sequence[float],
    names: list[str],
    handles: list[Line2D],
    verticals: list[Line2D],
    dashed: Line2D | None,
) -> tuple[list[Line2D], list[str]]:
    """Handles and labels: the networks, what the vertical lines are, the identity."""
    of_verticals, of_dashed = legend_labels(unit, training_levels255)
    further = [(line, of_verticals) for line in verticals[:1]] + ([(dashed, of_dashed)] if dashed else [])
    return [*handles, *(line for line, _ in further)], [*names, *(label for _, label in further)]
