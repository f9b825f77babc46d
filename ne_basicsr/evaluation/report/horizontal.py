"""The horizontal axis of figures over degradations: the input PSNR with the levels on top, or the levels themselves."""

import math
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from ne_basicsr.evaluation.report.style import limits
from ne_basicsr.metrics.curves import Curve
from ne_basicsr.ops.noise import LevelRange, Training, parts_of

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


class Horizontal:
    """The horizontal axis of a figure: the input PSNR of ``curves``, or the levels of a unit.

    Args:
        unit: of the levels, see ``UNITS``.
        curves: where not given, and over a gain or an offset, the axis is the level.
        levels: that were tested, where there are no curves.
        training_levels255: of the training; without meaning for other units than ``sigma255``.

    Attributes:
        is_level: whether the axis is the level.
        tested: place of each tested level on the axis.
        marked: places of vertical lines.
        bands: ends of the ranges of the training on the axis, cut where the axis ends.
        labels: of the vertical lines, of the bands and of the dashed line.
    """

    def __init__(
        self,
        unit: str,
        training_levels255: Training,
        curves: Collection[Curve] = (),
        levels: Collection[float] = (),
    ) -> None:
        self.unit, is_noise = UNITS[unit], unit == 'sigma255'
        self.is_level = not curves or self.unit.unchanged is not None

        def place(level: float) -> float:  # of a noise level
            return level if self.is_level else input_psnr(level, curves)

        tested = {level: psnr for each in curves for level, psnr in zip(each.levels, each.psnr_in, strict=True)}
        self.tested = {level: level for level in (*levels, *tested)} if self.is_level else tested
        parts = parts_of(training_levels255) if is_noise else []
        ranges = [part for part in parts if isinstance(part, LevelRange)]
        listed = [part for part in parts if not isinstance(part, LevelRange)]
        self.trained = {level: place(level) for level in listed if level > 0}
        self.round_levels = {level: place(level) for level in _ROUND_LEVELS if is_noise and not self.is_level}
        # level 0 has no logarithm
        self.is_log = self.is_level and self.unit.is_log and min(self.tested.values(), default=1) > 0
        self.marked = [*self.trained.values()] if self.unit.unchanged is None else [self.unit.unchanged]
        low, high = self.limits()
        ends = [sorted(place(level) if level or self.is_level else high for level in span) for span in ranges]
        bands = [(max(low, first), min(high, last)) for first, last in ends]
        self.bands = [(first, last) for first, last in bands if first < last]
        self.labels = (
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

    def draw(self, axes: Axes) -> None:
        """Limits, titles and numbers; over the input PSNR an axis of levels on top."""
        axes.set_xlim(self.limits())
        if not self.is_level:
            axes.set_xlabel('input PSNR (dB)', fontsize=8)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True))
            self._levels_on_top(axes)
            return
        axes.set_xlabel(self.unit.label, fontsize=8)
        if self.is_log:
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

    def _levels_on_top(self, axes: Axes) -> None:
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
