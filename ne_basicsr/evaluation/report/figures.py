"""Figures over degradations: PSNR as the paper draws it, SSIM in the same form, the defect of equivariance.

Over noise, JPEG and photons the horizontal axis is the input PSNR, with the levels on top; over a gain or an offset,
which do not change the input PSNR, it is the level.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from ne_basicsr.evaluation.report.horizontal import Horizontal
from ne_basicsr.evaluation.report.style import BAND, GREY, Line, finish, line_figure
from ne_basicsr.metrics.curves import Curve
from ne_basicsr.ops.noise import Training

ByLevel = Mapping[str, Mapping[float, float]]
"""By the network's name, level to value."""

FLOAT32_ROUNDING = 1e-5
"""Defects below it are rounding: deep networks that are exactly equivariant show 2e-7 to 2e-6 in float32."""

_DEEPEST = 15.0  # dB below the identity; showing more of a line would flatten all others
_SMALLEST_DEFECT = 1e-9  # zero is drawn there, on the logarithmic axis


def mismatch_figure(
    curves: Mapping[str, Curve],
    training_levels255: Training = (),
    title: str = '',
    *,
    unit: str = 'sigma255',
    names: Sequence[str] = (),
) -> Figure:
    """Output against input PSNR, one line per network, with the identity and the noise levels of the training.

    Args:
        curves: by the network's name. Levels that are not finite (sigma 0, a network that diverged) are left out.
        training_levels255: levels of the training, in 8-bit units, marked by vertical lines at their input PSNR,
            interpolated between the tested ones, and ``LevelRange``s, marked by bands. Level 0 is infinitely far to the
            right and gets no line. With other units than ``sigma255`` they are not marked.
        title: above the figure, if any.
        unit: of the curves' levels, see ``degradations.KINDS``.
        names: the networks of all figures that belong together, in the order that gives each its colour and marker;
            where not given, those of ``curves``.
    """
    over = Horizontal(unit, training_levels255, curves.values())
    lines = {
        name: (over.places(curve.levels) if over.is_level else curve.psnr_in, curve.psnr_out)
        for name, curve in curves.items()
    }
    longest = max(curves.values(), key=lambda curve: len(curve.levels), default=Curve((), (), ()))
    identity = (over.places(longest.levels), longest.psnr_in) if over.is_level else (over.limits(), over.limits())

    def adjust(axes: Axes) -> None:
        inputs, outputs = (
            [psnr for curve in curves.values() for psnr in values(curve) if math.isfinite(psnr)]
            for values in (lambda curve: curve.psnr_in, lambda curve: curve.psnr_out)
        )
        if inputs and outputs and min(outputs) < min(inputs) - _DEEPEST:
            axes.set_ylim(bottom=min(inputs) - _DEEPEST)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True))

    return _figure('output PSNR (dB)', over, lines, identity, names, adjust, title)


def ssim_figure(
    ssim: ByLevel,
    identity: Curve,
    identity_ssim: Mapping[float, float],
    training_levels255: Training = (),
    *,
    unit: str = 'sigma255',
    names: Sequence[str] = (),
) -> Figure:
    """SSIM of the output in the form of ``mismatch_figure``; the dashed line is that of the input.

    Args:
        ssim: of each network, mean by level.
        identity: the curve of the noisy image, which says where the levels lie.
        identity_ssim: of the input, mean by level.
        training_levels255, unit, names: as for ``mismatch_figure``.
    """
    over = Horizontal(unit, training_levels255, [identity])
    lines = {name: (over.places(values), list(values.values())) for name, values in ssim.items()}
    dashed = (over.places(identity_ssim), list(identity_ssim.values()))
    ticks = MaxNLocator(nbins=6, steps=[1, 2, 5, 10])
    return _figure('output SSIM', over, lines, dashed, names, lambda axes: axes.yaxis.set_major_locator(ticks))


def defect_figure(
    defects: ByLevel, training_levels255: Training = (), *, unit: str = 'sigma255', names: Sequence[str] = ()
) -> Figure:
    """Defect of normalization equivariance against the level; what lies in the shaded region is rounding.

    Args:
        defects: of each network, mean by level, where it was measured.
        training_levels255, unit, names: as for ``mismatch_figure``.
    """
    over = Horizontal(unit, training_levels255, levels=[level for values in defects.values() for level in values])
    lines = {  # NaN stays
        name: (over.places(values), [max(value, _SMALLEST_DEFECT) for value in values.values()])
        for name, values in defects.items()
    }

    def adjust(axes: Axes) -> None:
        drawn = [y for xs, ys in lines.values() for y in ys if math.isfinite(y)]
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

    return _figure('NE defect', over, lines, None, names, adjust)


def _figure(
    label: str,
    over: Horizontal,
    lines: Mapping[str, Line],
    identity: Line | None,
    names: Sequence[str],
    adjust: Callable[[Axes], object],
    title: str = '',
) -> Figure:
    """A line per network, dotted lines at training levels, bands, the identity; ``adjust`` sets the vertical axis."""
    figure, axes, handles = line_figure(lines, '', label, names)
    verticals = [axes.axvline(x, color='black', linewidth=0.8, linestyle=':', zorder=1) for x in over.marked]
    dashed = axes.plot(*identity, color=GREY, linewidth=1, linestyle='--', zorder=1) if identity else []
    adjust(axes)
    over.draw(axes)
    bands = [axes.axvspan(*ends, color=BAND, alpha=0.15, linewidth=0, zorder=0) for ends in over.bands]
    found = [*handles, *verticals[:1], *bands[:1], *dashed]
    labels = [label for marks, label in zip((verticals, bands, dashed), over.labels, strict=True) if marks]
    return finish(figure, found, [*lines, *labels], title)
