"""Figures over degradations: PSNR as the paper draws it, SSIM in the same form, the defect of equivariance.

Over noise, JPEG and photons the horizontal axis is the input PSNR, with the levels on top; over a gain or an offset,
which do not change the input PSNR, it is the level.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ne_basicsr.evaluation.report.style import BAND, GREY, Line, finish, limits, line_figure
from ne_basicsr.metrics.curves import Curve
from ne_basicsr.ops.noise import LevelRange, Training, parts_of

ByLevel = Mapping[str, Mapping[float, float]]
"""By the network's name, level to value."""

FLOAT32_ROUNDING = 1e-5
"""Defects below it are rounding: deep networks that are exactly equivariant show 2e-7 to 2e-6 in float32."""

_DEEPEST = 15.0  # dB below the identity; showing more of a line would flatten all others
_SMALLEST_DEFECT = 1e-9  # zero is drawn there, on the logarithmic axis
_ROUND_LEVELS = (25, 50, 10, 5, 100, 15, 75, 35, 2, 1, 20, 150, 200)  # for the sigma axis, in order of preference


class Unit(NamedTuple):
    """How the levels of a unit of ``degradations.KINDS`` are named and drawn."""

    column: str  # in CSV files
    header: str  # above a column of a page
    text: str  # of one level
    label: str  # of an axis
    is_log: bool = False  # whether equal ratios are equal distances
    # the level that changes nothing; with it the axis is the level, since the input PSNR is constant
    unchanged: float | None = None


UNITS = {
    'sigma255': Unit('sigma_8bit', 'σ', 'σ = {}', 'noise level σ (of 255)', True),
    'max_sigma255': Unit('max_sigma_8bit', 'largest σ', 'σ ≤ {}', 'largest noise level σ (of 255)', True),
    'quality': Unit('quality_factor', 'quality', 'quality {}', 'JPEG quality factor'),
    'photons': Unit('photons', 'photons', '{} photons', 'photons for white', True),
    'a': Unit('gain', 'gain a', 'a = {}', 'gain a', True, 1.0),
    'b': Unit('offset', 'offset b', 'b = {}', 'offset b', False, 0.0),
}


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
    over = _Horizontal(unit, training_levels255, curves.values())
    lines = {
        k: (over.places(each.levels) if over.is_level else each.psnr_in, each.psnr_out) for k, each in curves.items()
    }
    longest = max(curves.values(), key=lambda curve: len(curve.levels), default=Curve((), (), ()))
    identity = (over.places(longest.levels), longest.psnr_in) if over.is_level else (over.limits(), over.limits())
    figure, axes, legend = over.figure('output PSNR (dB)', lines, identity, names)
    inputs, outputs = (
        [psnr for values in column for psnr in values if math.isfinite(psnr)]
        for column in ((each.psnr_in for each in curves.values()), (each.psnr_out for each in curves.values()))
    )
    if inputs and outputs and min(outputs) < min(inputs) - _DEEPEST:
        axes.set_ylim(bottom=min(inputs) - _DEEPEST)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True))
    return finish(figure, legend, title)


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

    ``identity`` is the curve of the noisy image, which says where the levels lie.
    """
    over = _Horizontal(unit, training_levels255, [identity])
    lines, dashed = (
        {name: (over.places(values), list(values.values())) for name, values in each.items()}
        for each in (ssim, {'': identity_ssim})
    )
    figure, axes, legend = over.figure('output SSIM', lines, dashed[''], names)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    return finish(figure, legend)


def defect_figure(
    defects: ByLevel, training_levels255: Training = (), *, unit: str = 'sigma255', names: Sequence[str] = ()
) -> Figure:
    """Defect of normalization equivariance against the level; what lies in the shaded region is rounding."""
    over = _Horizontal(unit, training_levels255, levels=[level for values in defects.values() for level in values])
    lines = {  # NaN stays
        name: (over.places(values), [max(value, _SMALLEST_DEFECT) for value in values.values()])
        for name, values in defects.items()
    }
    figure, axes, legend = over.figure('NE defect', lines, None, names)
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
    return finish(figure, legend)


def input_psnr(level255: float, curves: Collection[Curve]) -> float:
    """The input PSNR (dB) of a noise level, by interpolation between the levels that the curves were tested at.

    What is interpolated, over log sigma, is the distance to -20 log10 sigma, the PSNR of unclipped noise of deviation
    sigma: it is constant, so the result is exact beyond the tested levels, too.
    """
    nominal = -20 * math.log10(level255 / 255)
    tested = sorted(
        (math.log(level), psnr + 20 * math.log10(level / 255))
        for curve in curves
        for level, psnr in zip(curve.levels, curve.psnr_in, strict=True)
        if level > 0 and math.isfinite(psnr)
    )
    if not tested:
        return nominal
    return nominal + float(np.interp(math.log(level255), [s for s, _ in tested], [d for _, d in tested]))


def levels_text(training: Training) -> str:
    """``15, 25`` for levels, ``0 to 55`` for a range."""
    parts = [part if isinstance(part, LevelRange) else (part,) for part in parts_of(training)]
    return ', '.join(' to '.join(f'{level:.4g}' for level in part) for part in parts)


class _Horizontal:
    """The horizontal axis of a figure: the input PSNR of ``curves``, or the levels of a unit.

    Args:
        curves: where not given, and over a gain or an offset, the axis is the level.
        levels: that were tested, where there are no curves.
        training_levels255: without meaning for other units than ``sigma255``.
    """

    def __init__(
        self, unit: str, training255: Training, curves: Collection[Curve] = (), levels: Collection[float] = ()
    ) -> None:
        self.unit, is_noise = UNITS[unit], unit == 'sigma255'
        self.is_level = not curves or self.unit.unchanged is not None

        def place(level: float) -> float:  # of a noise level
            return level if self.is_level else input_psnr(level, curves)

        tested = {level: psnr for each in curves for level, psnr in zip(each.levels, each.psnr_in, strict=True)}
        self.tested = {level: level for level in (*levels, *tested)} if self.is_level else tested
        parts = parts_of(training255) if is_noise else []
        ranges = [part for part in parts if isinstance(part, LevelRange)]
        listed = [part for part in parts if not isinstance(part, LevelRange)]
        self.trained = {level: place(level) for level in listed if level > 0}
        self.round_levels = {level: place(level) for level in _ROUND_LEVELS if is_noise and not self.is_level}
        # level 0 has no logarithm
        self.is_log = self.is_level and self.unit.is_log and min(self.tested.values(), default=1) > 0
        self.marked = [*self.trained.values()] if self.unit.unchanged is None else [self.unit.unchanged]
        low, high = self.limits()
        ends = [sorted(place(level) if level or self.is_level else high for level in span) for span in ranges]
        self.bands = [(max(low, first), min(high, last)) for first, last in ends if max(low, first) < min(high, last)]
        self.labels = (  # of the vertical lines, of the bands and of the dashed line
            f'training σ = {levels_text(listed)}' if self.unit.unchanged is None else 'image unchanged',
            f'training σ = {levels_text(ranges)}',
            f'{"JPEG" if unit == "quality" else "noisy"} input (identity)',
        )

    def places(self, levels: Collection[float]) -> list[float]:
        """Where tested levels lie."""
        return [self.tested[level] for level in levels]

    def limits(self) -> tuple[float, float]:
        """Everything tested and marked, with some room."""
        values = [*self.tested.values(), *self.marked]
        if self.is_log:
            low, high = limits([math.log10(x) for x in values if x > 0], 0.3)
            return 10**low, 10**high
        return limits(values, 0.2 if self.is_level else 6.0)

    def figure(
        self, label: str, lines: Mapping[str, Line], identity: Line | None, names: Sequence[str]
    ) -> tuple[Figure, Axes, dict[str, Artist]]:
        """A line per network, dotted lines at training levels, bands, the identity; what the legend shows."""
        figure, axes, legend = line_figure(lines, '', label, names)
        verticals = [axes.axvline(x, color='black', linewidth=0.8, linestyle=':', zorder=1) for x in self.marked]
        dashed = axes.plot(*identity, color=GREY, linewidth=1, linestyle='--', zorder=1) if identity else []
        axes.set_xlim(self.limits())
        axes.set_xlabel(self.unit.label if self.is_level else 'input PSNR (dB)', fontsize=8)
        if not self.is_level:
            axes.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True))
            self._draw_levels_on_top(axes)
        elif self.is_log:
            axes.set_xscale('log')
            low, high = axes.get_xlim()
            powers = [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
            ticks = [power * factor for power in powers for factor in (1, 2, 5) if low <= power * factor <= high]
            few = ticks if len(ticks) <= 9 else [power for power in powers if low <= power <= high]
            axes.xaxis.set_major_locator(FixedLocator(few))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f'{x:g}'))
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]))
        bands = [axes.axvspan(*ends, color=BAND, alpha=0.15, linewidth=0, zorder=0) for ends in self.bands]
        marks: list[Sequence[Artist]] = [verticals, bands, dashed]
        further = {label: drawn[0] for label, drawn in zip(self.labels, marks, strict=True) if drawn}
        return figure, axes, {**legend, **further}

    def _draw_levels_on_top(self, axes: Axes) -> None:
        """The levels on top: those of the training, tested whole numbers, round ones, as far as there is room."""
        low, high = axes.get_xlim()
        whole = [level for level in self.tested if level == round(level) and level > 0]
        # of noise, what is good to read comes first, of other kinds the levels from high to low
        whole.sort(key=lambda s: (s not in _ROUND_LEVELS, s) if self.round_levels else (False, -s))
        ticks: dict[float, str] = {}
        of_whole = [(level, self.tested[level]) for level in whole]
        for level, x in [*self.trained.items(), *of_whole, *self.round_levels.items()]:
            if low <= x <= high and all(abs(x - other) > 0.085 * (high - low) for other in ticks):
                ticks[x] = f'{level:.4g}'
        top = axes.secondary_xaxis('top')
        top.set_xticks(list(ticks), list(ticks.values()))
        top.set_xlabel(self.unit.label, fontsize=8)
        for tick, x in zip(top.get_xticklabels(), ticks, strict=True):
            tick.set_fontweight('bold' if x in self.trained.values() else 'normal')
