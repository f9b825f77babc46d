"""The horizontal axis of figures over degradations: the input PSNR with the levels on top, or the levels themselves."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axes._secondary_axes import SecondaryAxis  # matplotlib exports no other name for it
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from ne_basicsr.evaluation.report.style import limits
from ne_basicsr.metrics.curves import Curve

_ROUND_LEVELS = (25, 50, 10, 5, 100, 15, 75, 35, 2, 1, 20, 150, 200)  # for the sigma axis, in order of preference


class _LevelAxis(NamedTuple):
    """How the levels of a unit are drawn: what they are, equal ratios or equal steps, and which one changes nothing."""

    label: str
    is_log: bool
    unchanged: float | None = None


_LEVEL_AXES = {
    'sigma255': _LevelAxis('noise level σ (of 255)', True),
    'quality': _LevelAxis('JPEG quality factor', False),
    'photons': _LevelAxis('photons for white', True),
    'a': _LevelAxis('gain a', True, 1.0),
    'b': _LevelAxis('offset b', False, 0.0),
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


class Horizontal:
    """The horizontal axis of a figure.

    Args:
        unit: of the levels, see ``degradations.KINDS``.
        tested: place of each tested level on the axis.
        trained: place of each level of the training.
        is_level: whether a place is the level itself; otherwise it is the input PSNR.
        round_levels: place of each level that is good to read, in order of preference.
    """

    def __init__(
        self,
        unit: str,
        tested: Mapping[float, float],
        trained: Mapping[float, float],
        is_level: bool,
        round_levels: Mapping[float, float] | None = None,
    ) -> None:
        self.axis = _LEVEL_AXES[unit]
        self.unit, self.tested, self.trained, self.is_level = unit, tested, trained, is_level
        self.is_log = is_level and self.axis.is_log and min(tested.values(), default=1) > 0  # level 0 has no logarithm
        self.round_levels = round_levels or {}
        unchanged = self.axis.unchanged
        self.marked = list(trained.values()) if unchanged is None else [unchanged]

    @classmethod
    def of_input(cls, unit: str, curves: Collection[Curve], training_levels255: Sequence[float]) -> 'Horizontal':
        """The input PSNR of ``curves``; over a gain and an offset, where it is the same at all levels, the level."""
        if _LEVEL_AXES[unit].unchanged is not None:
            return cls.of_levels(unit, [level for curve in curves for level in curve.levels], ())
        tested = {level: x for curve in curves for level, x in zip(curve.levels, curve.psnr_in, strict=True)}
        if unit != 'sigma255':
            return cls(unit, tested, {}, False)
        places = {level: input_psnr(level, curves) for level in (*training_levels255, *_ROUND_LEVELS) if level > 0}
        trained = {level: places[level] for level in training_levels255 if level > 0}
        return cls(unit, tested, trained, False, {level: places[level] for level in _ROUND_LEVELS})

    @classmethod
    def of_levels(cls, unit: str, levels: Collection[float], training_levels255: Sequence[float]) -> 'Horizontal':
        """The levels."""
        trained = training_levels255 if unit == 'sigma255' else ()
        return cls(unit, {level: level for level in levels}, {level: level for level in trained if level > 0}, True)

    def places(self, levels: Collection[float]) -> list[float]:
        """Where tested levels lie."""
        return [self.tested[level] for level in levels]

    def limits(self) -> tuple[float, float]:
        """Everything tested and marked, with some room."""
        values = [*self.places(list(self.tested)), *self.marked]
        if self.is_log:
            low, high = limits([math.log10(x) for x in values if x > 0], 0.3)
            return 10**low, 10**high
        return limits(values, 0.2 if self.is_level else 6.0)

    def draw(self, axes: Axes) -> list[SecondaryAxis]:
        """Limits, titles and numbers; the further axes made for them."""
        axes.set_xlim(self.limits())
        if not self.is_level:
            axes.set_xlabel('input PSNR (dB)', fontsize=8)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True))
            return [self._levels_on_top(axes)]
        axes.set_xlabel(self.axis.label, fontsize=8)
        if self.is_log:
            axes.set_xscale('log')
            axes.xaxis.set_major_locator(FixedLocator(_round_numbers(*axes.get_xlim())))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f'{x:g}'))
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]))
        return []

    def _levels_on_top(self, axes: Axes) -> SecondaryAxis:
        """The levels on top: those of the training, tested whole numbers, round ones, as far as there is room."""
        low, high = axes.get_xlim()
        is_whole = {level: level == round(level) and level > 0 for level in self.tested}
        # of noise, what is good to read comes first, of other kinds the levels as they follow each other
        rank = {level: level not in _ROUND_LEVELS if self.unit == 'sigma255' else -level for level in self.tested}
        whole = {level: self.tested[level] for level in sorted(rank, key=lambda s: (rank[s], s)) if is_whole[level]}
        ticks: dict[float, str] = {}
        for level, x in [*self.trained.items(), *whole.items(), *self.round_levels.items()]:
            if low <= x <= high and all(abs(x - other) > 0.085 * (high - low) for other in ticks):
                ticks[x] = f'{level:.4g}'
        top = axes.secondary_xaxis('top')
        top.set_xticks(list(ticks), list(ticks.values()))
        top.set_xlabel(self.axis.label, fontsize=8)
        for tick, x in zip(top.get_xticklabels(), ticks, strict=True):
            tick.set_fontweight('bold' if x in self.trained.values() else 'normal')
        return top


def legend_labels(unit: str, training_levels255: Sequence[float]) -> tuple[str, str]:
    """What the vertical lines are, and what the dashed line is."""
    if _LEVEL_AXES[unit].unchanged is not None:
        return 'image unchanged', 'noisy input (identity)'
    trained = 'training σ = ' + ', '.join(f'{level:.4g}' for level in training_levels255)
    return trained, 'JPEG input (identity)' if unit == 'quality' else 'noisy input (identity)'


def _round_numbers(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each power of ten, or the powers alone where they are many."""
    powers = [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    numbers = [x for power in powers for factor in (1, 2, 5) if low <= (x := factor * power) <= high]
    return numbers if len(numbers) <= 9 else [x for x in powers if low <= x <= high]
